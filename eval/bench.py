"""What every evaluation is given: where to write, how to get pictures, who judges them, who is told."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL.Image import Image

from eval.gallery import Gallery
from pipelines.bars import Advance

Scores = dict[str, float]  # label -> probability, as `lora_zoo.detectors` gives them

FOUND = 0.5  # probability from which a label counts as shown


class Judge(Protocol):
    """Says what pictures show."""

    def scores(self, images: Sequence[Image]) -> list[Scores]: ...


class Bars(Protocol):
    """Opens a progress bar over a known number of things."""

    def __call__(self, what: str, total: int) -> AbstractContextManager[Advance]: ...


@dataclass(frozen=True, eq=False)
class Bench:
    """The surroundings of one evaluation."""

    out: Path
    gallery: Gallery
    judge: Judge
    bar: Bars

    def path(self, name: str) -> Path:
        return self.out / name


def share(answers: Sequence[bool]) -> float:
    """Return the share of yes.

    Raises:
        ValueError: Nothing was asked, of which there is no share.
    """
    if not answers:
        raise ValueError("there is no share of no answers")
    return sum(answers) / len(answers)


def known_share(answers: Sequence[bool]) -> float | None:
    """Return the share of yes; None where nothing was asked."""
    return share(answers) if answers else None


def kind(label: str) -> str:
    """Return what a label is about, without the side: `left.colour.red` and `place.snow` give `colour` and `place`."""
    return label.split(".")[-2]


def value(label: str) -> str:
    """Return what a label asks for: `red` of `left.colour.red`."""
    return label.rsplit(".", 1)[1]
