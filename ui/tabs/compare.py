"""The second tab: one scene, the same noise, many ways."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr
from pydantic import JsonValue

from ui import scores, series, widgets, words
from ui.discreet import said
from ui.history import Job, Kept
from ui.series import Series
from ui.service import Service, goes_of
from ui.tabs import fields, vote
from ui.tabs.common import EACH, MODEL, QUIET, address, cancel_first, hand_in, item, picked, shown, told
from ui.tabs.fields import Inputs, draft_of
from ui.tabs.session import Memory

_BY_METHODS, _BY_AXES = "methods", "two axes"
_USUAL = ("merge", "switch", "composite")
_FIELDS = (
    "method",
    "weight",
    "seed",
    "num_inference_steps",
    "guidance_scale",
    "scheduler",
    "weight:LORA",
    "set:PARAMETER",
    "loras",
    "replace",
)
_NOTHING = "none"


def build(service: Service, inputs: Inputs) -> Memory:
    """Lay the tab out and connect it; return what the session keeps of it."""
    gr.HTML(
        "<p class='m-note'>The prompt, LoRAs and seed are those of the Compose tab. Press one of the pictures, then "
        "another, to lay them over each other.</p>",
        apply_default_css=False,
    )
    by = gr.Radio([_BY_METHODS, _BY_AXES], value=_BY_METHODS, label="Compare", elem_id="compare_by")
    methods = gr.CheckboxGroup(fields.methods(), value=list(_USUAL), label="Methods", elem_id="compare_methods")
    with gr.Group(visible=False) as axes:
        x = _axis("x", "Across", "method", "merge,switch,composite")
        y = _axis("y", "Down", "weight", "0.6,1,1.4")
    by.change(
        lambda way: (gr.update(visible=way == _BY_METHODS), gr.update(visible=way == _BY_AXES)),
        by,
        [methods, axes],
        **QUIET,
    )
    with gr.Row():
        start = gr.Button("Compare", variant="primary", elem_id="compare", scale=0, min_width=136)
        cancel = gr.Button("Cancel", elem_id="compare_cancel", scale=0, min_width=136)
    live = widgets.live("compare_live")
    remarks = gr.HTML("", elem_id="compare_remarks", apply_default_css=False)
    grid = widgets.gallery("compare_grid", "The pictures appear here, side by side.")
    slider = widgets.part("slider", {}, "compare_slider")
    details = gr.HTML("", elem_id="compare_details", apply_default_css=False)

    @told
    def submit(page: gr.Request, way: str, names: list[str], *rest: Any) -> tuple[JsonValue, str]:
        request = draft_of(rest[4:]).request(placed=True)
        made = series.by_methods(service, request, names) if way == _BY_METHODS else _over(service, request, rest[:4])
        return hand_in(service, made.asked, page), _left_out(made)

    asked = [by, methods, *x, *y, *inputs.all()]
    start.click(submit, asked, [live, remarks], concurrency_id=MODEL, **QUIET)
    cancel.click(lambda now: cancel_first(service, now), live, None, queue=False, **QUIET)
    _results(service, live, grid, slider, details)
    vote.build(service, grid, (slider, details))
    choices = (by, methods, *x, *y)
    return Memory("compare", live, grid, (grid,), lambda job, pictures: (grid_of(service, job, pictures),), choices)


def _axis(name: str, label: str, field: str, values: str) -> tuple[gr.Dropdown, gr.Textbox]:
    with gr.Row():
        choices = [*_FIELDS, _NOTHING] if name == "y" else list(_FIELDS)
        picked_field = gr.Dropdown(
            choices, value=field, label=f"{label}: what", allow_custom_value=True, elem_id=f"axis_{name}"
        )
        listed = gr.Textbox(
            values, label=f"{label}: values, as 1,2,3 or 1..4", elem_id=f"axis_{name}_values", max_length=2000
        )
    return picked_field, listed


def _over(service: Service, request: Any, texts: Sequence[str]) -> Series:
    x, y = (str(texts[0]), str(texts[1])), (str(texts[2]), str(texts[3]))
    return series.by_axes(request, x, None if y[0] == _NOTHING else y, service.limits.pictures)


def _left_out(made: Series) -> str:
    lines = "".join(f"<li>{escape(one)}</li>" for one in made.left_out)
    return f"<p>Left out:</p><ul>{lines}</ul>" if lines else ""


def _results(service: Service, live: gr.HTML, grid: gr.HTML, slider: gr.HTML, details: gr.HTML) -> None:
    def finished(event: gr.EventData) -> tuple[Any, Any, Any]:
        job = service.history.job(picked(event))
        pictures = service.history.pictures(job.id)
        return (grid_of(service, job, pictures), {}, "") if pictures else (gr.skip(), gr.skip(), gr.skip())

    live.done(finished, None, [grid, slider, details], **EACH)

    def pick(event: gr.EventData) -> tuple[JsonValue, str]:
        now = service.history.picture(picked(event))
        before = picked(event, "before")
        pair: JsonValue = {}
        if before and before != now.id:
            both = [service.history.picture(before), now]
            sides = dict(zip(("left", "right"), (address(one.id) for one in both), strict=True))
            pair = {**sides, "captions": [_label(service, one) for one in both]}
        return pair, words.record(now)

    grid.pick(told(pick), None, [slider, details], **EACH)


def _label(service: Service, kept: Kept) -> str:
    return said(service.history.job(kept.job).asked.labels[kept.position])


def grid_of(service: Service, job: Job, pictures: Sequence[Kept]) -> dict[str, JsonValue]:
    """Return a finished job as a labelled grid, with what each picture took and shows."""
    found = _shows(service, pictures)
    items: list[JsonValue] = []
    for kept, seconds, says in zip(pictures, took(job, pictures), found, strict=True):
        cost = f"{kept.record.unet_passes} passes, {seconds}"
        items.append(item(kept, job.asked.labels[kept.position], f"{cost}{says}"))
    if job.asked.columns and len(pictures) == len(job.asked.requests):
        return shown(items, columns=list(job.asked.columns), rows=list(job.asked.rows) or None)
    return shown(items)


def took(job: Job, pictures: Sequence[Kept]) -> list[str]:
    """Return the seconds of each picture; of those rendered together, its part of theirs by what it took of them."""
    seconds = {kept.position: kept.seconds for kept in pictures}
    goes = [[place for place, _ in go] for go in goes_of(job.asked.requests)]
    whole = {place: sum(seconds.get(one, 0.0) for one in go) for go in goes for place in go if len(go) > 1}
    beside = {place: f", its part of {total:.2f} s together" for place, total in whole.items()}
    return [f"{kept.seconds:.2f} s{beside.get(kept.position, '')}" for kept in pictures]


def _shows(service: Service, pictures: Sequence[Kept]) -> list[str]:
    """Return, for each picture, which of its LoRAs' concepts the detectors see, where they know them."""
    names = [scores.known([use.name for use in kept.record.adapters]) for kept in pictures]
    if not any(names):
        return [""] * len(pictures)
    judged = scores.judge([service.history.image(kept.id) for kept in pictures])
    return [
        "".join(f"; {name} {scores.concept(one, name):.0%}" for name in own)
        for one, own in zip(judged, names, strict=True)
    ]
