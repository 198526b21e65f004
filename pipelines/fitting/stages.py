"""Fits by regression: each member is drawn with, the inputs of the layers are heard, and the layers are solved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from composer.merges.common import factored
from composer.merges.regression import Regression
from lora_zoo.adapter import Adapter, LowRank
from pipelines.changes import Layer
from pipelines.fitting.base import Fitted, Member, derived
from pipelines.fitting.studio import Sketch, Studio, Target, listening
from pipelines.progress import Watch


@dataclass(frozen=True)
class Stage:
    """Some of the layers, solved together, after those of the stages before: these act as they were solved."""

    title: str
    holds: Callable[[Target], bool]
    steps: int  # denoising steps to listen to


@dataclass(frozen=True)
class Rules:
    """What a fit by regression decides."""

    stages: Sequence[Stage]
    ridge: float
    seed: int
    within: Callable[[Sequence[int]], bool]  # a weight's shape -> whether it is solved within the members' rows


def fit(studio: Studio, members: Sequence[Member], rules: Rules, watch: Watch) -> Fitted:
    """Solve all layers that members change, stage by stage."""
    solved: dict[Target, LowRank] = {}
    errors = [0.0, 0.0, 0.0]
    layers = studio.layers(members)
    for stage in rules.stages:
        chosen = {target: layer for target, layer in layers.items() if target not in solved and stage.holds(target)}
        if not chosen:
            continue
        equations = {target: _equations(target, members, rules, studio) for target in chosen}
        _listen(studio, members, _Listening(stage, rules.seed, chosen, solved), equations, watch)
        for target, one in equations.items():
            solved[target] = one.solve(rules.ridge)
            errors = [sum(pair) for pair in zip(errors, one.errors(rules.ridge), strict=True)]
    fitted, plain, wanted = errors
    measured = {"error": fitted / wanted, "error_of_the_sum": plain / wanted} if wanted else {}
    return Fitted(_by_component(solved), measured)


@dataclass(frozen=True)
class _Listening:
    stage: Stage
    seed: int
    layers: Mapping[Target, Layer]
    solved: Mapping[Target, LowRank]


def _equations(target: Target, members: Sequence[Member], rules: Rules, studio: Studio) -> Regression:
    component, path = target
    found = {place: one.adapter.component(component).get(path) for place, one in enumerate(members)}
    deltas = {place: factored(delta) for place, delta in found.items() if delta is not None}
    return Regression(deltas, rules.within(studio.model.layout[component][path]), studio.model.device)


def _listen(
    studio: Studio, members: Sequence[Member], at: _Listening, equations: Mapping[Target, Regression], watch: Watch
) -> None:
    for place, member in enumerate(members):

        def hear(target: Target, inputs: Tensor, place: int = place) -> None:
            equations[target].see(place, inputs)

        sketch = Sketch(member.prompt, at.stage.steps, at.seed, guidance=1.0)
        with torch.no_grad(), listening(at.layers, hear):
            studio.draw(_staged(member.adapter, at.stage, at.solved), sketch)
        watch(at.stage.title, place + 1, len(members))


def _staged(adapter: Adapter, stage: Stage, solved: Mapping[Target, LowRank]) -> Adapter:
    """Return a member in whose place, in the layers of earlier stages, all members act as they were merged."""
    layers = {component: dict(paths) for component, paths in adapter.layers.items()}
    for (component, path), delta in solved.items():
        layers.setdefault(component, {})[path] = delta
    return Adapter(adapter.name, derived(adapter.digest, stage.title, _content(solved)), layers)


def _content(solved: Mapping[Target, LowRank]) -> str:
    tensors = (tensor for delta in solved.values() for tensor in (delta.down, delta.up))
    return derived(list(solved), *(tensor.contiguous().numpy().tobytes() for tensor in tensors))


def _by_component(solved: Mapping[Target, LowRank]) -> dict[str, dict[str, LowRank]]:
    layers: dict[str, dict[str, LowRank]] = {}
    for (component, path), delta in solved.items():
        layers.setdefault(component, {})[path] = delta
    return layers
