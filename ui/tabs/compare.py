"""The second tab: one scene, the same noise, many ways."""

from __future__ import annotations

import random
from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr
from PIL import Image
from pydantic import JsonValue

from composer import registry
from composer.errors import BadRequest
from ui import scores, series, widgets, words
from ui.history import Job, Kept
from ui.series import Series
from ui.service import Service
from ui.tabs.common import MODEL, QUIET, address, cancel_first, hand_in, item, picked, shown, told
from ui.tabs.fields import Inputs, draft_of

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


def build(service: Service, inputs: Inputs) -> gr.HTML:
    """Lay the tab out and connect it; return its live part."""
    gr.HTML("<p class='m-note'>The prompt, LoRAs and seed are those of the Compose tab.</p>", apply_default_css=False)
    by = gr.Radio([_BY_METHODS, _BY_AXES], value=_BY_METHODS, label="Compare", elem_id="compare_by")
    choices = [(registry.describe(name).title, name) for name in registry.names()]
    methods = gr.CheckboxGroup(choices, value=list(_USUAL), label="Methods", elem_id="compare_methods")
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
        start = gr.Button("Compare", variant="primary", elem_id="compare")
        cancel = gr.Button("Cancel", elem_id="compare_cancel")
    live = widgets.live("compare_live")
    remarks = gr.HTML("", elem_id="compare_remarks", apply_default_css=False)
    grid = widgets.gallery("compare_grid", "The pictures appear here, side by side.")
    slider = widgets.part("slider", {}, "compare_slider")
    details = gr.HTML("", elem_id="compare_details", apply_default_css=False)

    @told
    def submit(page: gr.Request, way: str, names: list[str], *rest: Any) -> tuple[JsonValue, str]:
        request = draft_of(rest[4:]).request()
        made = series.by_methods(service, request, names) if way == _BY_METHODS else _over(service, request, rest[:4])
        return hand_in(service, made.asked, page), _left_out(made)

    asked = [by, methods, *x, *y, *inputs.all()]
    start.click(submit, asked, [live, remarks], concurrency_id=MODEL, **QUIET)
    cancel.click(lambda now: cancel_first(service, now), live, None, queue=False, **QUIET)
    _results(service, live, grid, slider, details)
    _vote(service, grid)
    return live


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
    def finished(event: gr.EventData) -> Any:
        job = service.history.job(picked(event))
        pictures = service.history.pictures(job.id)
        return grid_of(service, job, pictures) if pictures else gr.skip()

    live.done(finished, None, grid, **QUIET)

    def pick(before: Any, event: gr.EventData) -> tuple[JsonValue, str]:
        kept = service.history.picture(picked(event))
        last = before.get("last") if isinstance(before, dict) else None
        caption = service.history.job(kept.job).asked.labels[kept.position]
        pair = {"left": last["right"], "captions": [last["captions"][1], caption]} if isinstance(last, dict) else {}
        now = {"left": None, "captions": ["", caption], **pair, "right": address(kept.id)}
        return {**now, "last": {"right": now["right"], "captions": now["captions"]}}, words.record(kept)

    grid.pick(told(pick), slider, [slider, details], **QUIET)


def grid_of(service: Service, job: Job, pictures: Sequence[Kept]) -> dict[str, JsonValue]:
    """Return a finished job as a labelled grid, with what each picture took and shows."""
    found = _shows(service, pictures)
    items: list[JsonValue] = []
    for kept, says in zip(pictures, found, strict=True):
        cost = f"{kept.record.unet_passes} passes, {kept.seconds:.2f} s"
        items.append(item(kept, job.asked.labels[kept.position], f"{cost}{says}"))
    if job.asked.columns and len(pictures) == len(job.asked.requests):
        return shown(items, columns=list(job.asked.columns), rows=list(job.asked.rows) or None)
    return shown(items)


def _shows(service: Service, pictures: Sequence[Kept]) -> list[str]:
    """Return, for each picture, which of its LoRAs' concepts the detectors see, where they know them."""
    names = [scores.known([use.name for use in kept.record.adapters]) for kept in pictures]
    if not any(names):
        return [""] * len(pictures)
    judged = scores.judge([Image.open(service.history.file(kept.id)) for kept in pictures])
    return [
        "".join(f"; {name} {scores.concept(one, name):.0%}" for name in own)
        for one, own in zip(judged, names, strict=True)
    ]


def _vote(service: Service, grid: gr.HTML) -> None:
    """Let people judge without knowing which method made what."""
    with gr.Accordion("Blind vote", open=False, elem_id="vote"):
        pair = widgets.gallery("vote_pair", "Two pictures of the comparison above, without their names.")
        secret = gr.State(())
        with gr.Row():
            ask = gr.Button("Show me two", size="sm", elem_id="vote_ask")
            left = gr.Button("Left is better", size="sm", elem_id="vote_left")
            right = gr.Button("Right is better", size="sm", elem_id="vote_right")
        table = gr.HTML(_ratings(service), elem_id="ratings", apply_default_css=False)

    @told
    def two(now: Any) -> tuple[JsonValue, tuple[str, ...]]:
        ids = [one["id"] for one in now.get("items", [])] if isinstance(now, dict) else []
        kept = [service.history.picture(str(one)) for one in ids]
        if len({one.record.method for one in kept}) < 2:
            raise BadRequest("compare two methods first; then there is something to choose between")
        first = random.choice(kept)
        second = random.choice([one for one in kept if one.record.method != first.record.method])
        items: list[JsonValue] = [
            {**item(one, caption), "alt": caption} for one, caption in ((first, "left"), (second, "right"))
        ]
        return shown(items), (first.id, second.id)

    @told
    def judge(ids: Sequence[str], first: bool) -> tuple[JsonValue, tuple[str, ...], str]:
        if len(ids) != 2:
            raise BadRequest("press 'Show me two' first")
        winner, loser = (service.history.picture(one) for one in (ids if first else reversed(ids)))
        service.history.vote(winner.record.method, loser.record.method, winner.job)
        said = f"It was {winner.record.method}, against {loser.record.method}."
        return shown([], empty=said), (), _ratings(service)

    ask.click(two, grid, [pair, secret], **QUIET)
    left.click(lambda ids: judge(ids, True), secret, [pair, secret, table], **QUIET)
    right.click(lambda ids: judge(ids, False), secret, [pair, secret, table], **QUIET)


def _ratings(service: Service) -> str:
    """Return how often each method was preferred."""
    won: dict[str, int] = {}
    seen: dict[str, int] = {}
    for winner, loser, times in service.history.votes():
        won[winner] = won.get(winner, 0) + times
        for name in (winner, loser):
            seen[name] = seen.get(name, 0) + times
    rows = "".join(
        f"<tr><th scope='row'>{escape(name)}</th><td>{won.get(name, 0)} of {seen[name]}</td></tr>"
        for name in sorted(seen, key=lambda one: -won.get(one, 0) / seen[one])
    )
    return f"<table class='m-table'><caption>Preferred, of votes it was in</caption>{rows}</table>" if rows else ""
