"""How far the detectors can be trusted: balanced accuracy on fresh ground-truth pictures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from PIL.Image import Image

from eval import outputs
from eval.bench import FOUND, Bench, Scores, kind, value
from lora_zoo.detectors import anywhere
from lora_zoo.world.draw import draw
from lora_zoo.world.labels import labels
from lora_zoo.world.scene import Scene, concept_names, sample_any
from lora_zoo.world.vocabulary import CONCEPTS

_STREAM = "detectors judged"  # not the stream that they were trained on
_RATES = (0.0, 0.4, 0.8)  # how often each category of a scene holds a concept
_TOGETHER = 100


@dataclass(frozen=True)
class Accuracy:
    """How well one question is answered."""

    name: str
    balanced: float
    yes: int  # pictures where the answer is yes
    no: int


@dataclass
class Tally:
    """Answers to one question, counted."""

    right: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    asked: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})

    def add(self, truth: bool, said: bool) -> None:
        self.asked[truth] += 1
        self.right[truth] += truth == said

    def result(self, name: str) -> Accuracy | None:
        """Return the mean of both rates; None where one of them has no picture."""
        if not all(self.asked.values()):
            return None
        rates = [self.right[truth] / self.asked[truth] for truth in (True, False)]
        return Accuracy(name, sum(rates) / 2, self.asked[True], self.asked[False])


@dataclass(frozen=True)
class Summary:
    """The worst first, in every list."""

    pictures: int
    labels: tuple[Accuracy, ...]  # per side
    attributes: tuple[Accuracy, ...]  # per attribute, all sides together
    concepts: tuple[Accuracy, ...]  # whether the concept is anywhere in the picture
    unasked: tuple[str, ...]  # labels that no picture answers yes, or none no


def run(bench: Bench, count: int) -> Summary:
    """Judge fresh pictures and write what was found."""
    rng = Random(_STREAM)
    scenes = [sample_any(rng, rng.choice(_RATES)) for _ in range(count)]
    judged: list[tuple[Scene, Scores]] = []
    with bench.bar("detectors", count) as advance:
        for start in range(0, count, _TOGETHER):
            some = scenes[start : start + _TOGETHER]
            pictures: list[Image] = [draw(scene, rng.getrandbits(31)) for scene in some]
            judged += zip(some, bench.judge.scores(pictures), strict=True)
            advance(len(some))
    summary = summarise(judged)
    outputs.write_rows(summary.labels, bench.path("detectors.jsonl"))
    outputs.write_summary(summary, bench.path("detectors.json"))
    return summary


def summarise(judged: Sequence[tuple[Scene, Scores]]) -> Summary:
    """Count right answers per label, per attribute and per concept."""
    sides: defaultdict[str, Tally] = defaultdict(Tally)
    pooled: defaultdict[str, Tally] = defaultdict(Tally)
    present: defaultdict[str, Tally] = defaultdict(Tally)
    for scene, scores in judged:
        for label, truth in labels(scene).items():
            if truth is None:
                continue
            said = scores[label] >= FOUND
            sides[label].add(truth, said)
            pooled[f"{kind(label)}.{value(label)}"].add(truth, said)
        shown = concept_names(scene)
        for one in CONCEPTS:
            present[one.name].add(one.name in shown, anywhere(scores, one.name) >= FOUND)
    unasked = tuple(name for name, tally in sides.items() if tally.result(name) is None)
    return Summary(
        len(judged), _worst_first(sides.items()), _worst_first(pooled.items()), _worst_first(present.items()), unasked
    )


def _worst_first(tallies: Iterable[tuple[str, Tally]]) -> tuple[Accuracy, ...]:
    results = (tally.result(name) for name, tally in tallies)
    return tuple(sorted((one for one in results if one is not None), key=lambda one: one.balanced))
