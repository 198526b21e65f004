"""The fifth tab: the queue, what was made before, and evaluation reports."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from pydantic import JsonValue

from pipelines.jobs.states import STOPPED
from ui import discreet, reports, series, widgets
from ui.forms import Draft
from ui.history import Kept, Listed
from ui.service import Service
from ui.tabs import drawn
from ui.tabs.common import EACH, MODEL, QUIET, download_link, item, picked, selected, shown, told
from ui.tabs.fields import Inputs, values_of

_MOST = 60
_PAGE = 48  # pictures
_NOTHING = "Nothing was found. Pictures that you render are kept here."
_EVERY = 2.0  # seconds between looks at the queue, while it is shown


def build(service: Service, inputs: Inputs, tabs: gr.Tabs, tab: gr.Tab) -> None:
    """Lay the tab out and connect it; `tab` is its own place among the `tabs`."""
    gr.HTML("<h2>Queue</h2>", apply_default_css=False)
    table = widgets.part("jobs", {"jobs": []}, "jobs")
    sent = gr.File(
        label="Submit a file of jobs (.jsonl, .csv, .yaml, .txt as A1111 takes it)",
        file_types=[".jsonl", ".csv", ".yaml", ".yml", ".txt"],
        elem_id="batch",
        height=150,
    )
    gr.HTML("<h2>Pictures</h2>", apply_default_css=False)
    search = gr.Textbox(label="Search in prompts, LoRAs and methods", elem_id="search", max_length=400)
    found = widgets.gallery("history", _NOTHING)
    unreadable = gr.HTML(_unreadable(service), elem_id="history_unreadable", apply_default_css=False)
    with gr.Row():
        use = gr.Button("Use these settings", size="sm", elem_id="history_use", scale=0, min_width=160)
        older = gr.Button("Show older ones", size="sm", elem_id="history_older", scale=0, min_width=160)
    save = gr.HTML("", elem_id="history_save", apply_default_css=False)
    details = gr.HTML("", elem_id="history_details", apply_default_css=False)
    gr.HTML("<h2>Evaluation reports</h2>", apply_default_css=False)
    listed = widgets.part("reports", _reports(service), "reports")
    _queue(service, (tabs, tab), table, (found, older))
    _upload(service, table, sent)
    _pictures(service, tab, search, (found, older, unreadable))

    @told
    def pick(event: gr.EventData) -> str:
        return drawn.picture(service, service.history.picture(picked(event)))

    found.pick(pick, None, details, **EACH)
    tab.select(lambda: _reports(service), None, listed, **QUIET)

    @told
    def take(gallery: JsonValue) -> list[Any]:
        return [
            gr.Tabs(selected="compose"),
            *values_of(Draft.from_request(service.settings(selected(gallery))), service),
        ]

    use.click(take, found, [tabs, *inputs.all()], **QUIET)
    found.change(download_link, found, save, **QUIET)


def _queue(
    service: Service,
    place: tuple[gr.Tabs, gr.Tab],
    table: gr.HTML,
    found: tuple[gr.HTML, gr.Button],
) -> None:
    """Connect the queue; a job's pictures are shown in place of those `found`, with no older ones behind them."""
    tabs, tab = place
    timer = gr.Timer(_EVERY, active=False)  # nobody asks for a queue that nobody sees

    def seen(event: gr.SelectData) -> gr.Timer:
        return gr.Timer(active=event.value == tab.label)

    tabs.select(seen, None, timer, queue=False, **QUIET)
    tab.select(lambda: _listed(service), None, table, queue=False, **QUIET)
    timer.tick(lambda: _listed(service), None, table, queue=False, **QUIET)

    @told
    def act(event: gr.EventData) -> tuple[JsonValue, Any, Any]:
        data: dict[str, Any] = getattr(event, "_data", None) or {}
        job, action = picked(event), str(data.get("action"))
        if action == "show":
            items: list[JsonValue] = [item(one) for one in service.history.pictures(job)]
            return _listed(service), shown(items), gr.update(visible=False)
        acts = {
            "cancel": service.cancel,
            "resume": service.resume,
            "up": lambda one: service.history.move(one, up=True),
            "down": lambda one: service.history.move(one, up=False),
        }
        if action in acts:
            acts[action](job)
        return _listed(service), gr.skip(), gr.skip()

    table.pick(act, None, [table, *found], **EACH)


def _upload(service: Service, table: gr.HTML, sent: gr.File) -> None:
    """Connect the files of jobs that are sent."""

    @told
    def submit(file: str | None) -> JsonValue:
        if file is not None:
            service.submit(series.of_file(Path(file), service.limits.pictures))
        return _listed(service)

    sent.upload(submit, sent, table, concurrency_id=MODEL, **QUIET)


def _listed(service: Service) -> dict[str, JsonValue]:
    return {"jobs": [_row(job) for job in service.history.jobs(_MOST)]}


def _row(job: Listed) -> JsonValue:
    return {
        "id": job.id,
        "state": job.state.value,
        "kind": job.kind,
        "about": discreet.said(job.title or job.prompt)[:120],
        "loras": ", ".join(map(discreet.said, job.loras)),
        "method": job.method,
        "pictures": job.pictures,
        "created": job.created,
        "error": discreet.said(job.error) if job.state in STOPPED else "",
    }


def _reports(service: Service) -> dict[str, JsonValue]:
    listed: list[JsonValue] = [
        {"id": one.id, "name": one.name, "about": one.about, "written": one.written}
        for one in reports.found(service.reports)
    ]
    return {"reports": listed, "unwritten": list(reports.unwritten(service.reports))}


def _unreadable(service: Service) -> str:
    """Return which pictures are left out since their rows cannot be read, as HTML; nothing if none is."""
    lines = "".join(f"<li>{escape(discreet.said(why))}</li>" for why in list(service.history.left_out.values())[:_PAGE])
    return f"<p>Left out:</p><ul>{lines}</ul>" if lines else ""


def _pictures(service: Service, tab: gr.Tab, search: gr.Textbox, parts: tuple[gr.HTML, gr.Button, gr.HTML]) -> None:
    found, older, _ = parts

    def look(text: str) -> tuple[JsonValue, Any, str]:
        pictures = service.history.search(text, _PAGE)
        return shown([_item(one) for one in pictures], empty=_NOTHING), _more(pictures), _unreadable(service)

    search.change(look, search, [*parts], trigger_mode="always_last", **QUIET)
    tab.select(look, search, [*parts], **QUIET)

    def further(text: str, gallery: Any) -> tuple[JsonValue, Any]:
        items = gallery.get("items", []) if isinstance(gallery, dict) else []
        pictures = service.history.search(text, _PAGE, skip=len(items))
        kept = gallery.get("selected") if isinstance(gallery, dict) else None
        return shown([*items, *map(_item, pictures)], kept, empty=_NOTHING), _more(pictures)

    older.click(further, [search, found], [found, older], **QUIET)


def _item(one: Kept) -> JsonValue:
    return item(one, f"{one.record.method}, seed {one.record.seed}")


def _more(pictures: Sequence[Kept]) -> Any:
    """Offer older pictures as long as there may be some."""
    return gr.update(visible=len(pictures) == _PAGE)
