"""What a plan does with each LoRA in each step, as numbers that can be drawn: no method is named, no model asked.

A LoRA's strength in a step is the sum over the passes that name it of weight x share / sum of shares, which is what it
adds to the blend of predictions. A pass with a mask is blended with those that take part there: it is set against the
passes without a mask only, and a LoRA in several such passes is as strong as in the strongest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from composer.plan import Pass, Plan, Step, weighted_mean


@dataclass(frozen=True)
class Line:
    """One LoRA over the steps."""

    name: str
    strengths: tuple[float, ...]  # of each step
    kept: tuple[bool, ...]  # whether that comes from deep features kept in an earlier step, and from nothing else
    placed: bool = False  # whether there is a step in which it acts in a part of the picture only


@dataclass(frozen=True)
class Outline:
    """A plan over its steps, as far as it is settled before the first one."""

    lines: tuple[Line, ...] = ()
    passes: tuple[int, ...] = ()  # of each step
    looks: tuple[int, ...] = ()  # of each step, at the attention, before it; at most
    merged: bool = False  # whether one adapter is made of several: what it keeps of each is decided layer by layer
    settled: bool = True  # whether passes count by their shares; if not, strengths are their weights, not divided
    read: bool = False  # whether the plan depends on what the prompt's words mean to the model
    known: bool = False  # whether that was read; if not, all LoRAs are taken to matter alike
    ranked: bool = False  # whether it depends on how much fine detail each LoRA draws
    second: int | None = None  # the step in which a second pass, over the picture enlarged, begins

    @property
    def count(self) -> int:
        return len(self.passes)

    def then(self, later: Outline) -> Outline:
        """Return this followed by a second pass of the same LoRAs."""
        both = [
            Line(one.name, one.strengths + two.strengths, one.kept + two.kept, one.placed or two.placed)
            for one, two in zip(self.lines, later.lines, strict=True)
        ]
        passes, looks = self.passes + later.passes, self.looks + later.looks
        return replace(self, lines=tuple(both), passes=passes, looks=looks, second=self.count)


def outline(plan: Plan, names: Sequence[str], steps: Sequence[Step]) -> Outline:
    """Ask a plan for its passes in all steps; `names` are the LoRAs to tell of, in order."""
    asked = [tuple(plan.passes(step)) for step in steps]
    settled = plan.combine is weighted_mean
    return Outline(
        lines=tuple(_line(name, asked, settled) for name in names),
        passes=tuple(len(passes) for passes in asked),
        looks=tuple(plan.looks(step) for step in steps),
        merged=any(one.merge is not None and len(one.adapters) > 1 for passes in asked for one in passes),
        settled=settled,
    )


def _line(name: str, asked: Sequence[Sequence[Pass]], settled: bool) -> Line:
    acting = [[one for one in passes if one.adapters.get(name)] for passes in asked]
    return Line(
        name,
        tuple(_strength(name, passes, settled) for passes in asked),
        tuple(bool(passes) and all(one.shallow for one in passes) for passes in acting),
        any(_is_placed(name, own, passes) for own, passes in zip(acting, asked, strict=True)),
    )


def _strength(name: str, passes: Sequence[Pass], settled: bool) -> float:
    free = [one for one in passes if one.mask is None]
    everywhere = sum(one.share for one in free)

    def part(one: Pass) -> float:
        return one.share / (everywhere if one.mask is None else everywhere + one.share) if settled else 1.0

    weights = [(one, one.adapters.get(name, 0.0) * part(one)) for one in passes]
    whole = sum(weight for one, weight in weights if one.mask is None)
    there = [weight for one, weight in weights if one.mask is not None]
    return whole + max(there, key=abs, default=0.0)


def _is_placed(name: str, acting: Sequence[Pass], passes: Sequence[Pass]) -> bool:
    if any(name in area.adapters for one in acting for area in one.areas):
        return True
    return any(one.mask is not None for one in acting) and len(acting) < len(passes)
