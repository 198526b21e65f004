"""Votes of the page as the evaluation rates them: which pictures are compared, and how strong a method is by that."""

from __future__ import annotations

import math
from collections.abc import Sequence

from eval.judge.ratings import Rating, Vote, rate
from ui.history import Kept

#: Comparisons with votes from which on an interval says something; it is drawn over them.
ENOUGH = 5
#: Of the votes against it, how many a method wins that is rated 1 higher than another.
SHARE = 1 / (1 + math.exp(-1))

#: What is a method's own, regions included: not every method looks at them.
_OF_METHODS = {
    "method": True,
    "parameters": True,
    "text_encoder_adapters": True,
    "adapters": {"__all__": {"region": True}},
}


def comparable(one: Kept, other: Kept) -> bool:
    """Return whether two pictures differ by their method only: same noise, LoRAs, weights, prompt, size."""
    first, second = (kept.record.request().model_dump(mode="json", exclude=_OF_METHODS) for kept in (one, other))
    return one.record.method != other.record.method and first == second


def of_pictures(left: Kept, right: Kept, point: float) -> Vote:
    """Return a vote between two pictures; `point` is what the left one gets: 1, 0.5 or 0."""
    return Vote(left.job, left.record.method, right.record.method, point)


def rated(votes: Sequence[Vote]) -> list[Rating]:
    """Return the ratings, the best first."""
    return rate(votes)


def enough(votes: Sequence[Vote]) -> bool:
    """Return whether there are comparisons enough for an interval."""
    return len({one.unit for one in votes}) >= ENOUGH
