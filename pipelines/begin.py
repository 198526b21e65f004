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
    notices = dict[str, None]()
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
    count, prediction = request.num_inference_steps or 0, request.prediction_type or ""
    return model.new_solver(request.scheduler or "", count, generator, prediction, one.skipped)
