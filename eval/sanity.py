"""Metrics held against what is known: drawings of a set, of the set without one of its concepts, of another set.

Nothing is rendered. A sound metric puts the drawings of the set first, and one that speaks of members says which of
them was taken out. The drawings are also an independent check of the detectors: the scene says what is in them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from pydantic import JsonValue

from eval.errors import BadMetric
from eval.metrics import registry
from eval.metrics.batch import Batch, Shot, Tools, shown
from eval.metrics.registry import Found, Measure, Metric
from eval.suites.model import Case, Suite, stable
from lora_zoo.world.draw import draw
from lora_zoo.world.scene import Scene, concept_names
from lora_zoo.world.vocabulary import COLOURS, PLACES, SHAPES

TRUE, TAKEN, OTHER = "truth", "taken out", "other"
_TOGETHER = 128


@dataclass(frozen=True)
class Line:
    """One measure on the three kinds of drawings."""

    measure: str
    by: str  # what it measures by
    truth: float
    taken_out: float
    other: float
    named: float | None  # share of the drawings whose missing member it names; None: it does not speak of members
    first: bool  # whether the truth is best


@dataclass(frozen=True)
class Sanity:
    """How metrics stand the test."""

    pictures: int
    lines: tuple[Line, ...]
    agreement: float  # share of the questions about concepts that the detectors answer as the scene does
    asked: int

    @property
    def sound(self) -> bool:
        return all(line.first for line in self.lines)

    def rows(self) -> list[dict[str, JsonValue]]:
        """Return one row per measure."""
        return [
            {
                "measure": line.measure,
                "measured_by": line.by,
                "truth": round(line.truth, 4),
                "taken_out": round(line.taken_out, 4),
                "other": round(line.other, 4),
                "truth_first": line.first,
                "named": None if line.named is None else round(line.named, 4),
            }
            for line in self.lines
        ]


@dataclass(frozen=True, eq=False)
class _Asked:
    """A drawing, and what was done to it."""

    shot: Shot
    scene: Scene  # what it shows
    lacking: str | None = None  # the member that was taken out


def run(suite: Suite, sets: int | None, tools: Tools) -> Sanity:
    """Draw and measure."""
    if not suite.drawn:
        raise BadMetric(f"suite {suite.name!r} has no ground truth to hold metrics against")
    asked = list(_asked(suite.cases(sets)))
    metrics = [one for one in registry.every() if one.usual and not one.of_work and not one.lacks(suite)]
    found: dict[str, list[Found | None]] = {one.name: [] for one in metrics}
    right = questions = 0
    for start in range(0, len(asked), _TOGETHER):
        some = asked[start : start + _TOGETHER]
        batch = Batch([one.shot for one in some], tools)
        for one in metrics:
            found[one.name] += one.answer(batch)
        for one, parts in zip(some, found["presence"][-len(some) :], strict=True):
            assert parts is not None
            there = concept_names(one.scene)
            answers = [bool(seen) == (name in there) for name, seen in parts.parts.items()]
            right, questions = right + sum(answers), questions + len(answers)
    lines = [line for one in metrics for line in _lines(one, asked, found[one.name], tools.measured_by(one.by))]
    return Sanity(len(asked), tuple(lines), right / questions, questions)


def _asked(cases: Sequence[Case]) -> Iterator[_Asked]:
    for place, case in enumerate(cases):
        scene = case.set.scene
        assert scene is not None
        yield _Asked(Shot(case, TRUE, shown(case)), scene)
        for member in case.set.members:
            less = without(scene, member.name, Random(stable(f"without {member.name} {case.name}")))
            yield _Asked(Shot(case, TAKEN, draw(less, case.seed)), less, member.name)
        other = cases[(place + 1) % len(cases)].set.scene
        assert other is not None
        yield _Asked(Shot(case, OTHER, draw(other, case.seed)), other)


def without(scene: Scene, name: str, rng: Random) -> Scene:
    """Return a scene without a concept; what cannot be missing is something of the base vocabulary instead."""
    creatures = list(scene.creatures)
    for slot, one in enumerate(creatures):
        if one.character == name:
            body = {"shape": rng.choice(tuple(SHAPES)), "colour": rng.choice(tuple(COLOURS))}
            creatures[slot] = replace(one, character=None, **body)
        elif one.garment == name:
            creatures[slot] = replace(one, garment=None)
        elif one.held == name:
            creatures[slot] = replace(one, held=None)
    place = rng.choice(tuple(PLACES)) if scene.place == name else scene.place
    return Scene(place, tuple(creatures), None if scene.style == name else scene.style)


def _lines(metric: Metric, asked: Sequence[_Asked], found: Sequence[Found | None], by: str) -> list[Line]:
    named = _named(asked, found)
    lines = (_line(one, asked, found) for one in metric.measures)
    return [replace(line, by=by, named=named) for line in lines if line is not None]


def _line(one: Measure, asked: Sequence[_Asked], found: Sequence[Found | None]) -> Line | None:
    values: dict[str, list[float]] = defaultdict(list)
    for question, answer in zip(asked, found, strict=True):
        if answer is not None and one.name in answer.values:
            values[question.shot.column].append(answer.values[one.name])
    if not values:
        return None
    truth, taken, other = (sum(values[kind]) / len(values[kind]) for kind in (TRUE, TAKEN, OTHER))
    sign = 1 if one.better == "higher" else -1
    return Line(one.name, "", truth, taken, other, None, sign * truth >= max(sign * taken, sign * other))


def _named(asked: Sequence[_Asked], found: Sequence[Found | None]) -> float | None:
    """Return how often the member that fell most, from the drawing to the one without it, is the one taken out."""
    right: list[bool] = []
    whole: Found | None = None
    for question, answer in zip(asked, found, strict=True):
        if question.shot.column == TRUE:
            whole = answer
        elif question.lacking is not None and answer is not None and whole is not None:
            members = [one.name for one in question.shot.case.set.members]
            fallen = {name: whole.parts[name] - answer.parts[name] for name in members if name in answer.parts}
            if question.lacking in fallen:
                most = max(fallen, key=lambda name: fallen[name])
                right.append(most == question.lacking and fallen[most] > 0)
    return sum(right) / len(right) if right else None
