"""The parts of the page that are our own: HTML components whose value is JSON, with their scripts in `static`."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr
from pydantic import JsonValue

_HEAD = '<script src="medley/page.js"></script>'

#: Events are found by gradio where a script names them in quotes; "done", "follow" and "pick" are ours.
_SCRIPT = """
medley.parts["%s"](element.firstElementChild, props, trigger, watch); // "done" "follow" "pick"
"""


def part(kind: str, value: JsonValue, elem_id: str) -> gr.HTML:
    """Return one of our own parts."""
    return gr.HTML(
        value,
        html_template=f'<div class="m-part m-{kind}-part"></div>',
        js_on_load=_SCRIPT % kind,
        head=_HEAD,
        apply_default_css=False,
        elem_id=elem_id,
    )


def cards(value: Sequence[JsonValue], family: str | None) -> gr.HTML:
    return part("cards", {"cards": list(value), "family": family}, "cards")


def chosen() -> gr.HTML:
    return part("chosen", [], "chosen")


def boxes() -> gr.HTML:
    return part("boxes", {"shown": False, "width": 1, "height": 1}, "boxes")


def start(value: JsonValue) -> gr.HTML:
    return part("start", value, "start")


def form(value: JsonValue, elem_id: str) -> gr.HTML:
    return part("form", value, elem_id)


def live(elem_id: str) -> gr.HTML:
    return part("live", {"jobs": []}, elem_id)


def gallery(elem_id: str, empty: str) -> gr.HTML:
    return part("gallery", {"items": [], "empty": empty}, elem_id)
