"""The part of the zoo's tab in which the chosen LoRAs are made into one file, by any merge there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from pipelines import merges
from pipelines.errors import Cancelled
from pipelines.export import Exported
from ui import making, more, widgets
from ui.making import Making, Wish
from ui.service import Service
from ui.tabs.common import MODEL, QUIET, telling
from ui.tabs.fields import Inputs, draft_of, optional

_FIRST = "cat"


@dataclass(frozen=True)
class _Fields:
    by: gr.Dropdown
    form: gr.HTML
    rank: gr.Textbox
    name: gr.Textbox
    prompts: gr.Textbox
    start: gr.Button
    cancel: gr.Button
    done: gr.HTML

    def asked(self) -> list[Any]:
        return [self.by, self.form, self.rank, self.name, self.prompts]


def build(service: Service, inputs: Inputs, grid: gr.HTML, cards: Callable[[str], Any]) -> None:
    """Lay it out and connect it; `cards` are those of a model's family, told anew when a file is there."""
    fields = _layout(service)
    fields.by.change(_chosen, [fields.by, fields.form], [fields.by, fields.form, fields.prompts], **QUIET)
    under_way: dict[str, Making] = {}  # by the page that asked

    def make(page: gr.Request, *values: Any) -> Iterator[tuple[Any, Any]]:
        own = len(fields.asked())
        with telling():
            wish, draft = _wish(values[:own]), draft_of(values[own:])
            going = Making(service, making.order(service, draft, wish), making.place(service, wish))
            under_way[str(page.session_hash)] = going
            try:
                for at in going.told():
                    yield f"<p class='m-status'>{escape(at)}</p>", gr.skip()
            except Cancelled:
                yield "<p class='m-status'>Cancelled; nothing was written.</p>", gr.skip()
                return
            finally:
                del under_way[str(page.session_hash)]
            assert going.made is not None, "or an error was raised"
            yield _made(service, going.made), cards(draft.model)

    asked = [*fields.asked(), *inputs.all()]
    fields.start.click(make, asked, [fields.done, grid], concurrency_id=MODEL, **QUIET)

    def stop(page: gr.Request) -> None:
        if (going := under_way.get(str(page.session_hash))) is not None:
            going.cancel()

    fields.cancel.click(stop, None, None, queue=False, **QUIET)


def _layout(service: Service) -> _Fields:
    gr.HTML("<h2>Make one LoRA file of the chosen ones</h2>", apply_default_css=False)
    by = gr.Dropdown(list(merges.names()), value=_FIRST, label="How", info=_about(_FIRST), elem_id="merge_method")
    form = widgets.form(more.controls(making.parameters(_FIRST), {}), "merge_parameters")
    prompts = gr.Textbox(
        label="What calls for each LoRA: NAME=TEXT, one a line; empty: its trigger words",
        lines=2,
        visible=False,
        elem_id="merge_prompts",
        max_length=service.limits.prompt,
    )
    with gr.Row():
        rank = optional("Rank", "rank", "as exact as can be")
        name = gr.Textbox("medley", label="Name", elem_id="merge_name", max_length=80, min_width=110)
    with gr.Row():
        start = gr.Button("Merge", elem_id="merge")
        cancel = gr.Button("Cancel the merge", elem_id="merge_cancel")
    done = gr.HTML("", elem_id="merge_report", apply_default_css=False)
    return _Fields(by, form, rank, name, prompts, start, cancel, done)


def _wish(values: Sequence[Any]) -> Wish:
    """Read the fields of this part."""
    method, filled, *texts = values
    parameters = filled.get("values", {}) if isinstance(filled, Mapping) else {}
    rank, name, prompts = (str(text or "") for text in texts)  # a field that was never shown has None
    return Wish(str(method), parameters, name=name, rank=rank, prompts=prompts)


def _about(method: str) -> str:
    told = merges.describe(method)
    return f"{told['summary']} It needs {told['needs']}."


def _chosen(method: str, before: Any) -> tuple[Any, Any, Any]:
    kept = before.get("values", {}) if isinstance(before, Mapping) else {}
    form = more.controls(making.parameters(method), kept)
    return gr.update(info=_about(method)), form, gr.update(visible=merges.is_fit(method))


def _made(service: Service, made: Exported) -> str:
    digest = service.shelf.library.find(made.path.stem).sha256
    ranks = f"rank {made.ranks[0]}" if made.ranks[0] == made.ranks[1] else f"ranks {made.ranks[0]} to {made.ranks[1]}"
    measured = "".join(f"<li>{escape(key.replace('_', ' '))}: {value:.3g}</li>" for key, value in made.measured.items())
    return (
        f"<p><strong>{escape(made.path.stem)}</strong>: {made.layers} layers of {ranks}, "
        f"{made.energy_kept:.2%} of the energy kept. It is in the grid now.</p>"
        f"{f'<ul>{measured}</ul>' if measured else ''}"
        f'<a class="m-button" href="medley/loras/{digest}" download>Download</a>'
    )
