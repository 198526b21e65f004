"""The fields of the first tab: how they are laid out, and how they are read and filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from composer import registry
from pipelines import schedulers, specs
from ui import forms, more, widgets
from ui.cards import cards
from ui.forms import Draft
from ui.service import Service

DEFAULT = "model's default"
EXAMPLE = Draft(
    chosen=[forms.Chosen(name=name) for name in ("zorp", "striped_vest", "trident")],
    prompt="zorp the one-eyed alien wearing a striped vest, holding a golden trident, in a meadow",
    method="merge",
)


@dataclass(frozen=True)
class Inputs:
    """The fields of a draft, in the order of `Draft`."""

    chosen: gr.HTML
    prompt: gr.Textbox
    negative: gr.Textbox
    method: gr.Dropdown
    parameters: gr.HTML
    model: gr.Dropdown
    scheduler: gr.Dropdown
    steps: gr.Textbox
    guidance: gr.Textbox
    width: gr.Textbox
    height: gr.Textbox
    seed: gr.Textbox
    random: gr.Checkbox
    count: gr.Number
    start: gr.HTML
    hires: gr.HTML
    further: gr.HTML

    def all(self) -> list[Any]:
        return list(vars(self).values())


@dataclass(frozen=True)
class Panel:
    """The fields of a request, what is told of them, and what starts and stops it."""

    inputs: Inputs
    cost: gr.HTML
    plan: gr.HTML
    render: gr.Button
    cancel: gr.Button
    more: gr.Accordion


def draft_of(values: Sequence[Any]) -> Draft:
    """Read the fields; a scheduler left alone is None."""
    read = list(values)
    place = list(Draft.model_fields).index("scheduler")
    read[place] = None if read[place] == DEFAULT else read[place]
    return Draft.of(read)


def values_of(draft: Draft, service: Service) -> list[Any]:
    """Return what the fields show for a draft."""
    found: dict[str, Any] = {name: getattr(draft, name) for name in Draft.model_fields}
    found["chosen"] = forms.listed(draft.chosen, cards(service.shelf.library))
    found["parameters"] = forms.controls(draft.method, draft.parameters)
    found["scheduler"] = draft.scheduler or DEFAULT
    found["seed"] = str(draft.seed)
    found["start"] = more.start_field(draft.start)
    found["hires"] = more.second_pass(draft.hires)
    found["further"] = more.further(draft.further)
    for name in ("num_inference_steps", "guidance_scale", "width", "height"):
        found[name] = "" if found[name] is None else f"{found[name]:g}"
    return list(found.values())


def size_of(service: Service, values: Sequence[Any]) -> tuple[int, int]:
    """Return width and height of the picture that the fields ask for; what is wrong with them is an error."""
    draft = draft_of(values)
    spec = specs.find(draft.model)
    own = (spec.width, spec.height) if draft.start is None else service.held.size(draft.start)
    return draft.width or own[0], draft.height or own[1]


def loras(service: Service) -> tuple[gr.HTML, gr.HTML, gr.HTML, gr.Button]:
    """Lay out the cards, the list of those chosen, the boxes, and the button that fills in an example."""
    gr.HTML("<h2>1. LoRAs</h2>", apply_default_css=False)
    grid = widgets.cards(cards(service.shelf.library), specs.find(service.models[0]).family)
    with gr.Row(elem_classes="m-headrow"):
        gr.HTML("<h2>2. In this order, this strong</h2>", apply_default_css=False)
        example = gr.Button("Fill in an example", size="sm", elem_id="example", scale=0, min_width=150)
    chosen = widgets.chosen()
    return grid, chosen, widgets.boxes(), example


def request(service: Service, chosen: gr.HTML) -> Panel:
    """Lay out all other fields, the place where the cost is told, and the buttons."""
    gr.HTML("<h2>3. Picture</h2>", apply_default_css=False)
    prompt = gr.Textbox(
        label="Prompt",
        lines=3,
        elem_id="prompt",
        max_length=service.limits.prompt,
        placeholder="What the picture shows. Press trigger words to insert them; <lora:name:0.8> works too.",
    )
    negative = gr.Textbox(label="Negative prompt", lines=1, elem_id="negative", max_length=service.limits.prompt)
    method = gr.Dropdown(methods(), value="merge", label="Method", elem_id="method", info=summary("merge"))
    parameters = widgets.form(forms.controls("merge"), "parameters")
    settings = _settings(service)
    folded, begun = _more()
    cost = gr.HTML("", elem_id="cost", apply_default_css=False)
    with gr.Row(elem_id="go"):
        render = gr.Button("Render", variant="primary", elem_id="render")
        cancel = gr.Button("Cancel", elem_id="cancel")
    gr.HTML('<p class="m-note">Ctrl-Enter renders, Esc cancels.</p>', apply_default_css=False)
    plan = gr.HTML("", elem_id="plan", apply_default_css=False)
    return Panel(
        Inputs(chosen, prompt, negative, method, parameters, *settings, *begun), cost, plan, render, cancel, folded
    )


def _settings(service: Service) -> tuple[Any, ...]:
    with gr.Row():
        # text, for a browser's numbers have 53 bits and seeds have 64
        seed = gr.Textbox("0", label="Seed", elem_id="seed", max_length=20, max_lines=1, min_width=110)
        new = gr.Checkbox(False, label="New seed each time", elem_id="random", min_width=110)
        count = gr.Number(1, label="Pictures", precision=0, minimum=1, maximum=64, elem_id="count", min_width=90)
    with gr.Accordion("Model, scheduler, steps, size", open=False, elem_id="settings"):
        model = gr.Dropdown(list(service.models), value=service.models[0], label="Model", elem_id="model")
        scheduler = gr.Dropdown([DEFAULT, *schedulers.names()], value=DEFAULT, label="Scheduler", elem_id="scheduler")
        with gr.Row():
            steps = optional("Steps", "steps")
            guidance = optional("Guidance", "guidance")
            width = optional("Width", "width")
            height = optional("Height", "height")
    return model, scheduler, steps, guidance, width, height, seed, new, count


def _more() -> tuple[gr.Accordion, tuple[Any, ...]]:
    with gr.Accordion("More: start picture, second pass", open=False, elem_id="more") as folded:
        gr.HTML("<h3>Begin with a picture</h3>", apply_default_css=False)
        start = widgets.start(more.start_field(None))
        gr.HTML("<h3>Second pass</h3>", apply_default_css=False)
        hires = widgets.form(more.second_pass(None), "hires")
        gr.HTML("<h3>Finer settings</h3>", apply_default_css=False)
        further = widgets.form(more.further({}), "further")
    return folded, (start, hires, further)


def optional(label: str, elem_id: str, placeholder: str = "auto") -> gr.Textbox:
    """Return a field for a number that may be left empty, which gradio's own number field may not."""
    return gr.Textbox("", label=label, placeholder=placeholder, elem_id=elem_id, max_length=20, min_width=80)


def methods() -> list[tuple[str, str]]:
    """Return all methods by their titles, as one looks them up."""
    return sorted(
        ((registry.describe(one).title, one) for one in registry.names()), key=lambda both: both[0].casefold()
    )


def summary(method: str) -> str:
    """Return a method in one line."""
    return registry.describe(method).summary
