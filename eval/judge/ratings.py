"""Bradley-Terry ratings of pairwise votes (Bradley and Terry 1952), fitted by choix; a tie is half a win for each side.

A method that wins or loses everything has no finite rating, so each is given one tie against the same stand-in first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from eval.intervals import Interval
from eval.judge.errors import NoRatings

_RESAMPLES = 500
Wins = NDArray[np.float64]  # [winner, loser]


@dataclass(frozen=True)
class Vote:
    """One answer: how much of the point the first method gets, 1, 0.5 or 0."""

    unit: str  # votes on one set are drawn together for intervals
    a: str
    b: str
    point: float


@dataclass(frozen=True)
class Rating:
    """A method's log strength (0 is the average), and how many votes it took part in."""

    method: str
    rating: Interval
    votes: int


def rate(votes: Sequence[Vote], seed: int = 0) -> list[Rating]:
    """Return ratings with 95 % intervals by bootstrap over units, the best first; one unit has no interval."""
    names = sorted({name for one in votes for name in (one.a, one.b)})
    units = sorted({one.unit for one in votes})
    place, own = {name: n for n, name in enumerate(names)}, {unit: n for n, unit in enumerate(units)}
    won = np.zeros((len(units), len(names), len(names)))
    for one in votes:
        won[own[one.unit], place[one.a], place[one.b]] += one.point
        won[own[one.unit], place[one.b], place[one.a]] += 1 - one.point
    fitted = strengths(won.sum(0))
    rng = np.random.default_rng(seed)
    ends: list[tuple[float | None, float | None]] = [(None, None)] * len(names)
    if len(units) > 1:
        drawn = [strengths(won[rng.integers(0, len(units), len(units))].sum(0)) for _ in range(_RESAMPLES)]
        ends = [(float(low), float(high)) for low, high in np.percentile(drawn, (2.5, 97.5), axis=0).T]
    counts = won.sum(0) + won.sum(0).T
    found = [
        Rating(name, Interval(float(fitted[n]), *ends[n]), int(round(counts[n].sum()))) for n, name in enumerate(names)
    ]
    return sorted(found, key=lambda one: -one.rating.mean)


def strengths(won: Wins) -> NDArray[np.float64]:
    """Return log strengths, mean zero, that make the wins most likely, by choix (Luce spectral ranking, iterated)."""
    if find_spec("choix") is None:
        raise NoRatings("rating votes needs choix; install requirements-judge.txt")
    count = len(won)
    met = np.full((count + 1, count + 1), 0.5)  # the last is the stand-in
    met[:count, :count] = won
    np.fill_diagonal(met, 0.0)
    found = import_module("choix").ilsr_pairwise_dense(met)[:count]
    return found - found.mean()
