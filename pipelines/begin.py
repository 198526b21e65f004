"""What a picture needs before its first step, whichever pass it is: a plan, its prompts read, a solver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from composer.plan import Plan, Prompt
from composer.texts import TextEmbedding
from pipelines.bank import Gate
from pipelines.model import LoadedModel
from pipelines.reading import Asked, Conditioning, PromptReader, Undesired
from pipelines.resolve import Resolved
from pipelines.schedulers import Solver
from pipelines.text import Vocabulary

_FAR = 0.5  # of full noise: less is seen in pictures, and needs fewer than eight steps


class Holding(Protocol):
    """A request's LoRAs, as what reads prompts sees them."""

    @property
    def vocabulary(self) -> Vocabulary: ...
    def gate(self, one: Prompt) -> Gate: ...


@dataclass(frozen=True, eq=False)
class Begun:
    """A method that was started, and all that was read for it."""

    plan: Plan
    prompts: dict[str, Conditioning]
    texts: Mapping[str, TextEmbedding]  # that the method compares
    notices: tuple[str, ...]  # what there is to tell of the prompts


def planned(reader: PromptReader, one: Resolved, held: Holding) -> Begun:
    """Start a request's method and read its prompts."""
    undesired = Undesired(one.request.undesired, one.request.undesired_strength)
    texts = {text: reader.embedding(one.spoken(text)) for text in one.method.texts(one.job)}
    plan = one.plan(texts)
    notices = dict.fromkeys(one.notices)
    prompts = {
        key: reader.read(
            Asked(prompt, held.gate(prompt), one.guided, one.triggers, undesired, held.vocabulary), notices
        )
        for key, prompt in plan.prompts.items()
    }
    return Begun(plan, prompts, texts, tuple(notices))


def solver(model: LoadedModel, one: Resolved, generator: torch.Generator) -> Solver:
    """Return a request's own scheduler, which draws from its generator."""
    request = one.request
    asked = {"prediction_type": request.prediction_type, "timestep_spacing": request.spacing}
    stated = {key: value for key, value in asked.items() if value is not None}
    return model.new_solver(request.scheduler or "", request.num_inference_steps or 0, generator, stated, one.skipped)


def first_step(solver: Solver, one: Resolved) -> tuple[str, ...]:
    """Return what to tell of a picture that begins with noise, and whose first step is far from full noise."""
    begins = solver.steps[0].sigma if solver.steps else solver.full_sigma
    if one.canvas is not None or begins >= _FAR * solver.full_sigma:
        return ()
    request = one.request
    return (
        f"the first of {request.num_inference_steps} steps takes noise of sigma {begins:.3g} for full noise, which is "
        f"{solver.full_sigma:.3g}: spacing '{request.spacing}' leaves out the noisiest steps; 'trailing' keeps them",
    )
