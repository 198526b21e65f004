"""The first tab: LoRAs, a prompt, a method; a picture, seen as it forms."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from pydantic import JsonValue

from composer import registry
from composer.request import Start
from lora_zoo.errors import ZooError
from pipelines import estimates, specs
from ui import discreet, forms, more, widgets, words
from ui.cards import cards
from ui.forms import Draft
from ui.history import Asked, Kept
from ui.restore import restore
from ui.service import Service
from ui.tabs import drawn, fields
from ui.tabs.common import EACH, MODEL, QUIET, cancel_first, download_link, hand_in, item, picked, selected, shown, told
from ui.tabs.fields import EXAMPLE, Inputs, Panel, draft_of, values_of


@dataclass(frozen=True)
class Compose:
    """What other parts of the page use of this tab."""

    inputs: Inputs
    grid: gr.HTML
    live: gr.HTML
    gallery: gr.HTML
    plan: gr.HTML
    details: gr.HTML


def build(service: Service, tabs: gr.Tabs) -> Compose:
    """Lay the tab out and connect it; it is one of the `tabs`."""
    with gr.Row(elem_classes="m-columns"):
        with gr.Column(scale=4, min_width=330):
            grid, chosen, boxes, example = fields.loras(service)
        with gr.Column(scale=4, min_width=330):
            panel = fields.request(service, chosen)
        with gr.Column(scale=4, min_width=330):
            gr.HTML("<h2>4. Result</h2>", apply_default_css=False)
            live = widgets.live("live")
            plan = gr.HTML("", elem_id="live_plan", apply_default_css=False)
            gallery = widgets.gallery("gallery", "Pictures appear here, and take shape before your eyes.")
            actions = _actions()
            details = gr.HTML("", elem_id="details", apply_default_css=False)
    inputs = panel.inputs
    tab = Compose(inputs, grid, live, gallery, plan, details)
    _explain_method(inputs)
    _frame(service, inputs, boxes)
    _fit_model(service, tab)
    _price(service, panel)
    _render(service, tab, panel)
    _after(service, tab, actions)
    _send(service, tab, tabs, {"compare": actions["compare"], "explain": actions["explain"]})
    _begin(service, tab, panel, actions["begin"])
    example.click(lambda: values_of(EXAMPLE, service), None, inputs.all(), **QUIET)
    return tab


def _actions() -> dict[str, Any]:
    with gr.Row(elem_id="actions"):
        use = gr.Button("Use these settings", size="sm", elem_id="use", min_width=130)
        vary = gr.Button("Vary the seed", size="sm", elem_id="vary", min_width=130)
        begin = gr.Button("Begin with it", size="sm", elem_id="begin", min_width=130)
        compare = gr.Button("Send to compare", size="sm", elem_id="send", min_width=130)
        why = gr.Button("Explain it", size="sm", elem_id="send_explain", min_width=130)
    save = gr.HTML("", elem_id="save", apply_default_css=False)
    drop = gr.File(
        label="Drop a picture: its settings come back",
        file_types=[".png", ".jpg", ".jpeg", ".webp", ".avif"],
        elem_id="drop",
        height=150,
    )
    gr.HTML(
        "<p class='m-note'>One of Medley, A1111, ComfyUI, InvokeAI or Fooocus.</p>",
        apply_default_css=False,
    )
    remarks = gr.HTML("", elem_id="remarks", apply_default_css=False)
    return {
        "use": use,
        "vary": vary,
        "begin": begin,
        "compare": compare,
        "explain": why,
        "save": save,
        "drop": drop,
        "remarks": remarks,
    }


def _explain_method(inputs: Inputs) -> None:
    """Show a method's explanation and its controls."""

    def chosen(method: str, before: dict[str, Any]) -> tuple[Any, JsonValue]:
        kept = before.get("values", {}) if isinstance(before, dict) else {}
        return gr.update(info=fields.summary(method)), forms.controls(method, kept)

    inputs.method.change(chosen, [inputs.method, inputs.parameters], [inputs.method, inputs.parameters], **QUIET)


def _frame(service: Service, inputs: Inputs, boxes: gr.HTML) -> None:
    """Show boxes and masks if the method looks at them, in a frame of the picture's shape."""

    def framed(*values: Any) -> JsonValue:
        try:
            width, height = fields.size_of(service, values)
        except ZooError:
            return gr.skip()  # what is wrong is told beside the cost
        placed = registry.get(draft_of(values).method).uses_regions
        return {"shown": placed, "width": width, "height": height}

    shaping = (inputs.method, inputs.model, inputs.width, inputs.height, inputs.start)
    gr.on([one.change for one in shaping], framed, inputs.all(), boxes, trigger_mode="always_last", **QUIET)


def _fit_model(service: Service, tab: Compose) -> None:
    """Show only LoRAs that fit the model."""

    @told
    def chosen(model: str) -> JsonValue:
        family = specs.find(model).family if model in service.models else None
        return {"cards": cards(service.shelf.library), "family": family}

    tab.inputs.model.change(chosen, tab.inputs.model, tab.grid, **QUIET)


def _price(service: Service, panel: Panel) -> None:
    """Say what the picture takes and what acts when, before it is made; or what is wrong with it."""

    def price(*values: Any) -> tuple[str, str]:
        try:
            draft = draft_of(values)
            requests = draft.requests()
            cost = service.cost(requests)
            soon = estimates.estimate(specs.find(requests[0].model), cost)
            told = words.cost(cost, len(requests), soon)
            beside = escape(words.beside(draft.start is not None, draft.hires is not None, draft.further))
            line = f'<p class="m-cost">{escape(told)}</p><p class="m-note">{beside}</p>'
            return line, drawn.plan(service, requests[0])
        except ZooError as error:
            return f'<p class="m-cost m-error">{escape(discreet.said(error))}</p>', ""

    inputs = panel.inputs
    watched = [one.change for one in inputs.all() if one not in (inputs.prompt, inputs.negative)]
    gr.on(
        [*watched, inputs.prompt.blur],
        price,
        inputs.all(),
        [panel.cost, panel.plan],
        trigger_mode="always_last",
        concurrency_limit=4,
        **QUIET,
    )


def _render(service: Service, tab: Compose, panel: Panel) -> None:
    @told
    def submit(request: gr.Request, *values: Any) -> tuple[JsonValue, str]:
        draft = draft_of(values)
        if draft.random:
            draft = draft.model_copy(update={"seed": random.SystemRandom().randrange(2**31)})
        return hand_in(service, Asked(tuple(draft.requests())), request), str(draft.seed)

    panel.render.click(
        submit,
        tab.inputs.all(),
        [tab.live, tab.inputs.seed],
        trigger_mode="multiple",
        concurrency_id=MODEL,
        concurrency_limit=8,
        **QUIET,
    )
    panel.cancel.click(lambda live: cancel_first(service, live), tab.live, None, queue=False, **QUIET)

    def finished(event: gr.EventData) -> tuple[Any, Any]:
        pictures = service.history.pictures(picked(event))
        return result(service, pictures) if pictures else (gr.skip(), gr.skip())

    tab.live.done(finished, None, [tab.gallery, tab.details], **EACH)

    def followed(event: gr.EventData) -> str:
        return drawn.job(service, picked(event))

    tab.live.follow(followed, None, tab.plan, **EACH)


def result(service: Service, pictures: Sequence[Kept]) -> tuple[JsonValue, str]:
    """Return a finished job's pictures as the gallery and the details show them."""
    items: list[JsonValue] = [item(one, note=f"{one.seconds:.2f} s") for one in pictures]
    return shown(items, pictures[0].id), drawn.picture(service, pictures[0])


def _after(service: Service, tab: Compose, actions: dict[str, Any]) -> None:
    """Connect what can be done with a picture once it is there."""

    def pick(event: gr.EventData) -> str:
        return drawn.picture(service, service.history.picture(picked(event)))

    tab.gallery.pick(told(pick), None, tab.details, **EACH)
    tab.gallery.change(download_link, tab.gallery, actions["save"], **QUIET)

    @told
    def use(gallery: JsonValue, vary: bool) -> list[Any]:
        draft = Draft.from_request(service.settings(selected(gallery)))
        return values_of(draft.model_copy(update={"random": vary}), service)

    actions["use"].click(lambda gallery: use(gallery, False), tab.gallery, tab.inputs.all(), **QUIET)
    actions["vary"].click(lambda gallery: use(gallery, True), tab.gallery, tab.inputs.all(), **QUIET)

    @told
    def take(file: str | None) -> list[Any]:
        if file is None:
            return [gr.skip()] * (len(tab.inputs.all()) + 1)
        found = restore(Path(file), service.shelf.library, service.models)
        lines = "".join(f"<li>{escape(one)}</li>" for one in found.remarks)
        said = f"<p>Restored. Not taken over as it was:</p><ul>{lines}</ul>" if lines else "<p>Restored.</p>"
        return [*values_of(Draft.from_request(service.held.named(found.request)), service), said]

    actions["drop"].upload(take, actions["drop"], [*tab.inputs.all(), actions["remarks"]], **QUIET)


def _send(service: Service, tab: Compose, tabs: gr.Tabs, buttons: dict[str, gr.Button]) -> None:
    """Let another tab go on with the picture chosen in the gallery: its settings are filled in, and the tab opened."""

    @told
    def send(gallery: JsonValue, to: str) -> list[Any]:
        return [gr.Tabs(selected=to), *values_of(Draft.from_request(service.settings(selected(gallery))), service)]

    def connect(button: gr.Button, to: str) -> None:
        button.click(lambda gallery: send(gallery, to), tab.gallery, [tabs, *tab.inputs.all()], **QUIET)

    for to, button in buttons.items():
        connect(button, to)


def _begin(service: Service, tab: Compose, panel: Panel, button: gr.Button) -> None:
    """Let the picture chosen in the gallery be what the next one begins with."""

    @told
    def begin(gallery: JsonValue) -> tuple[JsonValue, Any]:
        named = service.held.hold(service.history.image(selected(gallery)))
        return more.start_field(Start(image=named)), gr.Accordion(open=True)

    button.click(begin, tab.gallery, [tab.inputs.start, panel.more], **QUIET)
