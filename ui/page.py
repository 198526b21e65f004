"""The page as a whole: its tabs, its looks, and what it remembers in the browser."""

from __future__ import annotations

import gradio as gr
from gradio.themes import Base, colors, sizes

from ui import api
from ui.guarded import Page
from ui.service import Service
from ui.tabs import compare, compose, explain, jobs, session, zoo

_HEADER = """
<header class="m-header">
  <h1>Medley</h1><p>several LoRAs in one picture</p>
  <button type="button" id="theme" class="m-chip">Light or dark</button>
</header>
"""


#: The page's own sign, in the page: a browser would look for one at the host's root, which a proxy may have for others.
HEAD = """
<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E
%3Ccircle cx='12' cy='12' r='9' fill='%234f46e5'/%3E%3Ccircle cx='20' cy='12' r='9' fill='%23f59e0b'/%3E
%3Ccircle cx='16' cy='20' r='9' fill='%2310b981'/%3E%3C/svg%3E">
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


def build(service: Service) -> Page:
    """Return the page of a service."""
    with Page(title="Medley", analytics_enabled=False, fill_width=True, delete_cache=(60, 900)) as page:
        api.build(service)  # first: the names are its own, whatever the page's handlers are called
        gr.HTML(_HEADER, apply_default_css=False)
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Compose", id="compose"):
                tab = compose.build(service, tabs)
            with gr.Tab("Compare", id="compare"):
                compared = compare.build(service, tab.inputs)
            with gr.Tab("Explain", id="explain"):
                explained = explain.build(service, tab.inputs)
            with gr.Tab("Zoo", id="zoo"):
                zoo.build(service, tab.inputs, tab.grid)
            with gr.Tab("Jobs and history", id="jobs") as last:
                jobs.build(service, tab.inputs, tabs, last)
        results = (tab.gallery, tab.details)
        composed = session.Memory(
            "compose", tab.live, tab.gallery, results, lambda _, pictures: compose.result(service, pictures)
        )
        session.remember(service, page, tab.inputs, (composed, compared, explained))
    page.queue(max_size=400, default_concurrency_limit=8, api_open=False)  # no event goes round it that need not
    return page
