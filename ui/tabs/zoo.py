"""The fourth tab: more LoRAs, whether the chosen ones fit and fight, and several made into one file."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from pydantic import JsonValue

from composer.errors import BadRequest
from lora_zoo.fit import Fit
from pipelines import heatmap, preflight
from pipelines.preflight import LoraReport, Report
from ui import discreet
from ui.cards import cards
from ui.errors import NotAllowed
from ui.live import as_data
from ui.service import Service
from ui.tabs import merge
from ui.tabs.common import MODEL, QUIET, told
from ui.tabs.fields import Inputs, draft_of

_MOST_SIDE = 1400
_MOST_REFUSED = 50  # files that are listed with their reasons


def build(service: Service, inputs: Inputs, grid: gr.HTML) -> None:
    """Lay the tab out and connect it."""
    with gr.Row():
        with gr.Column(min_width=330):
            _add(service, inputs, grid)
        with gr.Column(min_width=330):
            _check(service, inputs)
            merge.build(service, inputs, grid, lambda model: _grid(service, model))


def _add(service: Service, inputs: Inputs, grid: gr.HTML) -> None:
    gr.HTML("<h2>Add LoRAs</h2>", apply_default_css=False)
    megabytes = service.limits.upload >> 20
    sent = gr.File(
        label=f"Upload a LoRA (.safetensors, up to {megabytes} MB)",
        file_types=[".safetensors"],
        elem_id="upload",
        height=170,
    )
    odd = gr.Checkbox(False, label="Odd files too (of 8 bits, or with layers missing)", elem_id="upload_odd")
    report = gr.HTML("", elem_id="upload_report", apply_default_css=False)

    @told
    def take(file: str | None, model: str, doubtful: bool) -> tuple[Any, Any]:
        if file is None:
            return gr.skip(), gr.skip()
        place, beside = service.admit(Path(file), model, doubtful)
        return _admitted(place.stem, beside), _grid(service, model)

    sent.upload(take, [sent, inputs.model, odd], [report, grid], concurrency_id=MODEL, **QUIET)
    with gr.Row(visible=service.limits.folders):
        folder = gr.Textbox(
            label="Folder on this machine", elem_id="folder", max_length=1000, placeholder="/home/me/loras"
        )
        scan = gr.Button("Scan", elem_id="scan", scale=0, min_width=90)
    found = gr.HTML(_refused(service), elem_id="scan_report", apply_default_css=False)

    @told
    def look(text: str, model: str) -> tuple[str, JsonValue]:
        if not service.limits.folders:
            raise NotAllowed("folders are scanned only where the page is opened on the machine itself")
        if not text.strip():
            raise BadRequest("write the folder's path first")
        service.shelf.scan(Path(text.strip()))
        return _refused(service, always=True), _grid(service, model)

    scan.click(look, [folder, inputs.model], [found, grid], **QUIET)


def _refused(service: Service, always: bool = False) -> str:
    """Return how many files can be used and which cannot, as HTML; nothing where all can, unless it is asked for."""
    files = [row for row in service.shelf.library.rows() if row.error]
    if not files and not always:
        return ""
    lines = "".join(f"<li>{escape(row.file)}: {escape(discreet.said(row.error))}</li>" for row in files[:_MOST_REFUSED])
    return f"<p>{len(service.shelf.loras)} LoRAs can be used, {len(files)} files cannot.</p><ul>{lines}</ul>"


def _grid(service: Service, model: str) -> JsonValue:
    from pipelines import specs

    family = specs.find(model).family if model in service.models else None
    return {"cards": cards(service.shelf.library), "family": family}


def _admitted(name: str, beside: Fit) -> str:
    parts = "".join(f"<li>{escape(_part(one))}</li>" for one in beside.components)
    return f"<p><strong>{escape(name)}</strong> was added. {escape(beside.verdict)}</p><ul>{parts}</ul>"


def _part(one: Any) -> str:
    ranks = (
        ""
        if one.ranks is None
        else f", rank {one.ranks[0]}" + ("" if one.ranks[0] == one.ranks[1] else f" to {one.ranks[1]}")
    )
    return f"{one.component}: {one.matched} of {one.total} modules fit, {'+'.join(one.kinds)}{ranks}"


def _check(service: Service, inputs: Inputs) -> None:
    gr.HTML("<h2>Do the chosen LoRAs fit, and where do they fight?</h2>", apply_default_css=False)
    button = gr.Button("Check the chosen LoRAs", elem_id="check")
    report = gr.HTML("", elem_id="check_report", apply_default_css=False)

    @told
    def check(*values: Any) -> str:
        request = service.resolve([draft_of(values).request()])[0]
        if not request.adapters:
            raise BadRequest("nothing to check: choose LoRAs in the Compose tab")
        return _report(preflight.check(service.engine, request.model, request.adapters))

    button.click(check, inputs.all(), report, concurrency_id=MODEL, **QUIET)


def _report(found: Report) -> str:
    loras = "".join(f"<li>{_lora(one)}</li>" for one in found.loras)
    notable = sorted((one for one in found.conflicts if one.notable), key=lambda one: -(one.overlap + one.cancelled))
    told_of = "".join(f"<li>{escape(one.told())}</li>" for one in notable[:12])
    words = f"<ul>{told_of}</ul>" if told_of else "<p>No two of them fight in any block.</p>"
    picture = ""
    if found.conflicts:
        page = heatmap.draw(found.conflicts)
        page.thumbnail((_MOST_SIDE, _MOST_SIDE))
        picture = (
            f'<img src="{as_data(page, _MOST_SIDE)}" alt="Heat map of the conflicts, block by block" class="m-wide">'
        )
    return f"<ul>{loras}</ul>{words}{picture}"


def _lora(one: LoraReport) -> str:
    verdict = discreet.said(one.error) or (one.fit.verdict if one.fit else "fits")
    sizes = "; ".join(
        f"{size.component}: its change is {size.frobenius:.1%} of the weights it changes" for size in one.sizes
    )
    state = "m-error" if one.error else ""
    return f'<strong>{escape(one.name)}</strong> <span class="{state}">{escape(verdict)}</span>. {escape(sizes)}'
