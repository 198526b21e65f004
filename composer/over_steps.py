"""Weights over steps: how strongly a LoRA acts in the UNet as a picture goes on, whatever the method.

The method's own weights are multiplied, pass by pass, so that each step is computed as if the request named that step's
weights. Texts are read once, before the first step, with the LoRA's weight for text: steps do not change it.
Positions are steps counted from 0; those of a curve up to 1, and of `start` and `stop` between 0 and 1, are parts of
the way. Deep features that a method keeps are of the step in which they were kept, its weights included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from composer.errors import BadRequest
from composer.plan import AdapterWeights, Attention, Look, Pass, Plan, Step
from composer.request import Schedule

if TYPE_CHECKING:
    from torch import Tensor

#: LoRA -> its factor in each step.
Factors = Mapping[str, Sequence[float]]


def factors(schedule: Schedule, count: int) -> tuple[float, ...]:
    """Return a LoRA's factor in each of so many steps."""
    first = _begins(schedule.start, count)
    end = count if schedule.stop is None else _begins(schedule.stop, count)
    points = sorted((at * count if at <= 1.0 else at, factor) for at, factor in schedule.curve)
    return tuple(_on(points, index) if first <= index < end else 0.0 for index in range(count))


def _begins(position: float, count: int) -> int:
    return max(1, round(position * count)) if 0.0 < position < 1.0 else int(position)


def _on(points: Sequence[tuple[float, float]], index: int) -> float:
    """Return a curve's value: straight between its points, level before and behind them."""
    if not points:
        return 1.0
    for (before, low), (after, high) in pairwise(points):
        if before <= index < after:
            return low + (high - low) * (index - before) / (after - before)
    return points[0][1] if index < points[0][0] else points[-1][1]


def scheduled(plan: Plan, over: Factors) -> Plan:
    """Return a plan in which LoRAs act as strongly as their factors say."""

    def passes(step: Step) -> Sequence[Pass]:
        return [_now(one, over, step) for one in plan.passes(step)]

    def before(step: Step, latents: Tensor, look: Look) -> Tensor:
        return latents if plan.before_step is None else plan.before_step(step, latents, _Look(look, over, step))

    return replace(plan, passes=passes, before_step=None if plan.before_step is None else before)


def _now(one: Pass, over: Factors, step: Step) -> Pass:
    uncond = one.uncond if isinstance(one.uncond, str) else _weighted(one.uncond, over, step)
    return replace(one, adapters=_weighted(one.adapters, over, step), uncond=uncond)


def _weighted(weights: AdapterWeights, over: Factors, step: Step) -> AdapterWeights:
    return {name: weight * over[name][step.index] if name in over else weight for name, weight in weights.items()}


@dataclass(frozen=True)
class _Look:
    """A look at passes with the weights of one step."""

    look: Look
    over: Factors
    step: Step

    def attention(self, latents: Tensor, passes: Sequence[Pass]) -> list[Attention]:
        return self.look.attention(latents, [_now(one, self.over, self.step) for one in passes])

    def slope(
        self, latents: Tensor, passes: Sequence[Pass], loss: Callable[[Sequence[Attention]], Tensor]
    ) -> tuple[float, Tensor]:
        return self.look.slope(latents, [_now(one, self.over, self.step) for one in passes], loss)

    def ahead(self, latents: Tensor, one: Pass, count: int) -> Attention:
        return self.look.ahead(latents, _now(one, self.over, self.step), count)


def read(text: str) -> Schedule:
    """Read START-STOP, or WEIGHT@POSITION pairs between commas or semicolons."""
    if "@" in text:
        return Schedule(curve=read_curve(text))
    start, dash, stop = (part.strip() for part in text.partition("-"))
    if not dash:
        raise BadRequest(
            f"{text!r}: write START-STOP, for example 5-20, or WEIGHT@POSITION pairs, for example 0@0,1@0.4"
        )
    begin, end = position(start or "0", text), position(stop, text) if stop else None
    try:
        return Schedule(start=begin, stop=end)
    except BadRequest as error:
        raise BadRequest(f"{text!r}: {error}") from None


def read_curve(text: str) -> tuple[tuple[float, float], ...]:
    """Read WEIGHT@POSITION pairs, as loractl writes them, into points (position, weight)."""
    pairs = [part.partition("@") for part in text.replace(";", ",").split(",")]
    if not all(at for _, at, _ in pairs):
        raise BadRequest(f"{text!r}: each part is WEIGHT@POSITION, for example 0@0,1@0.4")
    return tuple((position(at, text), _number(weight, text)) for weight, _, at in pairs)


def position(part: str, text: str) -> float:
    """Read a step from 0, or a part of the way."""
    value = _number(part, text)
    if value < 0 or (value > 1 and value != int(value)):
        raise BadRequest(
            f"{text!r}: {part.strip()!r} is neither a step, from 0, nor a part of the steps between 0 and 1"
        )
    return value


def _number(part: str, text: str) -> float:
    try:
        value = float(part)
    except ValueError:
        raise BadRequest(f"{text!r}: {part.strip()!r} is not a number") from None
    if not abs(value) <= 1000.0:
        raise BadRequest(f"{text!r}: {part.strip()} is not a number from -1000 to 1000")
    return value
