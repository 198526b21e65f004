"""The third tab: what each LoRA did for the picture, by leaving it out."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr
from pydantic import JsonValue

from composer.sharing import shared
from pipelines import regions
from ui import scores, series, widgets
from ui.discreet import said
from ui.history import Job, Kept
from ui.live import as_data
from ui.scores import Part
from ui.service import Service
from ui.tabs.common import EACH, MODEL, QUIET, cancel_first, hand_in, item, picked, shown, told
from ui.tabs.fields import Inputs, draft_of
from ui.tabs.session import Memory


def build(service: Service, inputs: Inputs) -> Memory:
    """Lay the tab out and connect it; return what the session keeps of it."""
    gr.HTML(
        "<p class='m-note'>The picture of the Compose tab is made again, from the same noise, without each of its "
        "LoRAs. What changes is what that LoRA does.</p>",
        apply_default_css=False,
    )
    with gr.Row():
        start = gr.Button("Explain", variant="primary", elem_id="explain", scale=0, min_width=136)
        cancel = gr.Button("Cancel", elem_id="explain_cancel", scale=0, min_width=136)
    live = widgets.live("explain_live")
    table = gr.HTML("", elem_id="explain_table", apply_default_css=False)
    pictures = widgets.gallery("explain_pictures", "The pictures appear here, with maps of what each LoRA changed.")

    @told
    def submit(page: gr.Request, *values: Any) -> JsonValue:
        return hand_in(service, series.without_each(draft_of(values).request()).asked, page)

    start.click(submit, inputs.all(), live, concurrency_id=MODEL, **QUIET)
    cancel.click(lambda now: cancel_first(service, now), live, None, queue=False, **QUIET)

    def finished(event: gr.EventData) -> Any:
        job = picked(event)
        return explained(service, service.history.job(job), service.history.pictures(job))

    results = (table, pictures)
    live.done(finished, None, list(results), **EACH)
    return Memory("explain", live, pictures, results, lambda job, kept: explained(service, job, kept))


def explained(service: Service, job: Job, kept: Sequence[Kept]) -> tuple[Any, Any]:
    """Return the verdicts as a table, and all pictures with the maps of where they differ from the first.

    A job that was stopped explains nothing; what stood there before stays.
    """
    if len(kept) < len(job.asked.requests):
        return gr.skip(), gr.skip()
    images = [service.history.image(one.id) for one in kept]
    uses = shared(job.asked.requests[0]).adapters
    names = [use.name for use in uses]
    placed = {use.name: regions.placed(use.region, "").mask for use in uses if use.region is not None}
    found = scores.parts(names, images, bool(scores.known(names)), placed)
    items: list[JsonValue] = [item(kept[0], job.asked.labels[0])]
    for one, image in zip(kept[1:], images[1:], strict=True):
        label = job.asked.labels[one.position]
        items.append(item(one, label))
        items.append(
            {
                "address": as_data(scores.difference(images[0], image)),
                "caption": said(f"changed {label}"),
                "small": True,
            }
        )
    return _table(found), shown(items)


def _table(parts: Sequence[Part]) -> str:
    """Return the table; each cell says what it is of, for narrow pages, which have no room for a head."""
    names = ("Verdict", "Seen", "Seen without it", "Changes", "Why")
    head = "".join(f"<th scope='col'>{text}</th>" for text in ("LoRA", *names))
    rows = ""
    for one in parts:
        verdict = f"<span class='m-{one.verdict.replace(' ', '-')}'>{one.verdict}</span>"
        shares = (_share(one.score), _share(one.without), f"{one.change:.1%} of the picture")
        cells = zip(names, (verdict, *shares, escape(one.told)), strict=True)
        told = "".join(f"<td data-of='{name}'>{text}</td>" for name, text in cells)
        rows += f"<tr><th scope='row'>{escape(one.name)}</th>{told}</tr>"
    return (
        f"<div class='m-scroll'><table class='m-table m-stacked'><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
