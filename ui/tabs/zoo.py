"""The fourth tab: more LoRAs, whether the chosen ones fit and fight, and several made into one file."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from pydantic import JsonValue

from composer.errors import BadRequest
from lora_zoo.fit import Fit
from pipelines import export, heatmap, merges, preflight
from pipelines.fitting import FITS
from pipelines.merges import MergeOrder
from pipelines.preflight import LoraReport, Report
from ui import uploads
from ui.cards import cards
from ui.errors import NotAllowed
from ui.live import as_data
from ui.service import Service
from ui.tabs.common import MODEL, QUIET, told
from ui.tabs.fields import Inputs, draft_of, optional

_MOST_SIDE = 1400


def build(service: Service, inputs: Inputs, grid: gr.HTML) -> None:
    """Lay the tab out and connect it."""
    with gr.Row():
        with gr.Column(min_width=330):
            _add(service, inputs, grid)
        with gr.Column(min_width=330):
            _check(service, inputs)
            _merge(service, inputs, grid)


def _add(service: Service, inputs: Inputs, grid: gr.HTML) -> None:
    gr.HTML("<h2>Add LoRAs</h2>", apply_default_css=False)
    megabytes = service.limits.upload >> 20
    sent = gr.File(
        label=f"Upload a LoRA (.safetensors, up to {megabytes} MB)",
        file_types=[".safetensors"],
        elem_id="upload",
        height=130,
    )
    report = gr.HTML("", elem_id="upload_report", apply_default_css=False)

    @told
    def take(file: str | None, model: str) -> tuple[Any, Any]:
        if file is None:
            return gr.skip(), gr.skip()
        place, beside = service.admit(Path(file), model)
        return _admitted(place.stem, beside), _grid(service, model)

    sent.upload(take, [sent, inputs.model], [report, grid], concurrency_id=MODEL, **QUIET)
    with gr.Row(visible=service.limits.folders):
        folder = gr.Textbox(
            label="Folder on this machine", elem_id="folder", max_length=1000, placeholder="/home/me/loras"
        )
        scan = gr.Button("Scan", elem_id="scan", scale=0, min_width=90)
    found = gr.HTML("", elem_id="scan_report", apply_default_css=False)

    @told
    def look(text: str, model: str) -> tuple[str, JsonValue]:
        if not service.limits.folders:
            raise NotAllowed("folders are scanned only where the page is opened on the machine itself")
        if not text.strip():
            raise BadRequest("write the folder's path first")
        service.scan(Path(text.strip()))
        refused = [row for row in service.library.rows() if row.error]
        lines = "".join(f"<li>{escape(row.name)}: {escape(row.error)}</li>" for row in refused[:50])
        said = f"<p>{len(service.loras)} LoRAs can be used, {len(refused)} files cannot.</p><ul>{lines}</ul>"
        return said, _grid(service, model)

    scan.click(look, [folder, inputs.model], [found, grid], **QUIET)


def _grid(service: Service, model: str) -> JsonValue:
    from pipelines import specs

    return {"cards": cards(service.library), "family": specs.find(model).family if model in service.models else None}


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
    verdict = one.error or (one.fit.verdict if one.fit else "fits")
    sizes = "; ".join(
        f"{size.component}: its change is {size.frobenius:.1%} of the weights it changes" for size in one.sizes
    )
    state = "m-error" if one.error else ""
    return f'<strong>{escape(one.name)}</strong> <span class="{state}">{escape(verdict)}</span> {escape(sizes)}'


def _rank(text: str) -> int | None:
    """Read a rank; nothing is none."""
    if not text.strip():
        return None
    if not text.strip().isdecimal() or int(text) < 1:
        raise BadRequest(f"the rank is a whole number from 1 on, or left empty, not {text!r}")
    return int(text)


def _merge(service: Service, inputs: Inputs, grid: gr.HTML) -> None:
    gr.HTML("<h2>Make one LoRA file of the chosen ones</h2>", apply_default_css=False)
    able = [name for name in merges.names() if name not in FITS]
    with gr.Row():
        by = gr.Dropdown(able, value="cat", label="How (cat: the exact sum)", elem_id="merge_method", min_width=120)
        rank = optional("Rank", "rank", "as exact as can be")
        name = gr.Textbox("medley", label="Name", elem_id="merge_name", max_length=80, min_width=110)
    button = gr.Button("Merge", elem_id="merge")
    done = gr.HTML("", elem_id="merge_report", apply_default_css=False)

    @told
    def make(method: str, most: str, called: str, *values: Any) -> tuple[str, JsonValue]:
        draft = draft_of(values)
        plain = draft.model_copy(update={"method": method, "parameters": {}, "prompt": ""})
        if method in FITS:
            raise NotAllowed(f"{method} takes the model at work; use the command `merge`")
        request = service.resolve([plain.request()])[0].model_copy(update={"text_encoder_adapters": None})
        out = service.history.folder / uploads.FOLDER / f"{uploads.safe(called)}.safetensors"
        made = export.export(service.engine, MergeOrder(request, _rank(most)), out)
        service.refresh()
        digest = service.library.find(out.stem).sha256
        said = (
            f"<p><strong>{escape(out.stem)}</strong>: {made.layers} layers of rank {made.ranks[0]} to {made.ranks[1]}, "
            f"{made.energy_kept:.2%} of the energy kept. It is in the grid now.</p>"
            f'<a class="m-button" href="medley/loras/{digest}" download>Download</a>'
        )
        return said, _grid(service, draft.model)

    button.click(make, [by, rank, name, *inputs.all()], [done, grid], concurrency_id=MODEL, **QUIET)
