"""The page as a whole: its tabs, its looks, and what it remembers in the browser."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.themes import Base, colors, sizes
from pydantic import JsonValue

from lora_zoo.errors import ZooError
from ui import api
from ui.forms import Draft
from ui.service import Service
from ui.tabs import compare, compose, explain, jobs, zoo
from ui.tabs.common import QUIET, jobs_of
from ui.tabs.compose import Compose
from ui.tabs.fields import draft_of, values_of

_HEADER = """
<header class="m-header">
  <h1>Medley</h1><p>several LoRAs in one picture</p>
  <button type="button" id="theme" class="m-chip" onclick="medley.chooseTheme()">Light or dark</button>
</header>
"""


def theme() -> Base:
    """Return the looks: the system's own fonts, so that none is fetched, and colours that everybody can read."""
    plain = Base(
        primary_hue=colors.indigo,
        neutral_hue=colors.slate,
        radius_size=sizes.radius_md,
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "Consolas", "monospace"],
    )
    return plain.set(
        color_accent="*primary_600",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
    )


def build(service: Service) -> gr.Blocks:
    """Return the page of a service."""
    with gr.Blocks(title="Medley", analytics_enabled=False) as page:
        api.build(service)  # first: the names are its own, whatever the page's handlers are called
        remembered = gr.BrowserState(None, storage_key="medley-session", secret="medley")
        gr.HTML(_HEADER, apply_default_css=False)
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Compose", id="compose"):
                tab = compose.build(service)
            with gr.Tab("Compare", id="compare"):
                compare.build(service, tab.inputs)
            with gr.Tab("Explain", id="explain"):
                explain.build(service, tab.inputs)
            with gr.Tab("Zoo", id="zoo"):
                zoo.build(service, tab.inputs, tab.grid)
            with gr.Tab("Jobs and history", id="jobs"):
                jobs.build(service, tab.inputs, tabs)
        tab.compare.click(lambda: gr.Tabs(selected="compare"), None, tabs, **QUIET)
        _remember(service, page, tab, remembered)
    page.queue(max_size=400, default_concurrency_limit=8)
    return page


def _remember(service: Service, page: gr.Blocks, tab: Compose, remembered: gr.BrowserState) -> None:
    """Keep what stands in the fields, and which jobs are under way, over a reload."""

    def save(live: JsonValue, *values: Any) -> JsonValue:
        try:
            return {"draft": draft_of(values).remembered(), "jobs": list(jobs_of(live))}
        except ZooError:
            return gr.skip()  # fields that are wrong at the moment; the message is beside them

    def load(kept: dict[str, Any] | None) -> list[Any]:
        fields = tab.inputs.all()
        if not isinstance(kept, dict):
            return [gr.skip()] * (len(fields) + 1)
        try:
            draft = Draft.model_validate(kept.get("draft", {}))
            live: JsonValue = {"jobs": list(service.open_among(jobs_of(kept)))}
            return [live, *values_of(draft, service)]
        except ValueError:
            return [gr.skip()] * (len(fields) + 1)  # kept by an older version

    page.load(load, remembered, [tab.live, *tab.inputs.all()], **QUIET)
    changes = [
        one.change for one in (tab.live, *tab.inputs.all()) if one not in (tab.inputs.prompt, tab.inputs.negative)
    ]
    leaving = [tab.inputs.prompt.blur, tab.inputs.negative.blur]
    gr.on([*changes, *leaving], save, [tab.live, *tab.inputs.all()], remembered, trigger_mode="always_last", **QUIET)
