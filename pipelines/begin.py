"""What a picture needs before its first step, whichever pass it is: a plan, its prompts read, a solver."""

from __future__ import annotations

from typing import Protocol

import torch

from composer.plan import Plan, Prompt
from pipelines.bank import Gate
from pipelines.model import LoadedModel
from pipelines.reading import Asked, Conditioning, PromptReader, Undesired
from pipelines.resolve import Resolved
from pipelines.schedulers import Solver
from pipelines.text import Vocabulary


class Holding(Protocol):
    """A request's LoRAs, as what reads prompts sees them."""

    @property
    def vocabulary(self) -> Vocabulary: ...
    def gate(self, one: Prompt) -> Gate: ...


def planned(
    reader: PromptReader, one: Resolved, held: Holding
) -> tuple[Plan, dict[str, Conditioning], tuple[str, ...]]:
    """Start a request's method and read its prompts; return what there is to tell of them too."""
    undesired = Undesired(one.request.undesired, one.request.undesired_strength)
    plan = one.plan({text: reader.embedding(one.spoken(text)) for text in one.method.texts(one.job)})
    notices = dict[str, None]()
    prompts = {
        key: reader.read(
            Asked(prompt, held.gate(prompt), one.guided, one.triggers, undesired, held.vocabulary), notices
        )
        for key, prompt in plan.prompts.items()
    }
    return plan, prompts, tuple(notices)


def solver(model: LoadedModel, one: Resolved, generator: torch.Generator) -> Solver:
    """Return a request's own scheduler, which draws from its generator."""
    request = one.request
    count, prediction = request.num_inference_steps or 0, request.prediction_type or ""
    return model.new_solver(request.scheduler or "", count, generator, prediction, one.skipped)
