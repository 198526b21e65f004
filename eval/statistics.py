"""Statistics of paired comparisons: intervals, wins, tests, corrections, rank correlations. Plain numpy, seeded.

Sets are the units: the replicates of a set are averaged before anything is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from eval.intervals import RESAMPLES, Interval, Values, bootstrap, finite

EXACT = 16  # differences of which all signs are counted
_LAST_BITS = 1e-12  # of a value: below it two are equal
_CORRELATIONS = 500  # resamples of a correlation: each ranks all pictures anew


@dataclass(frozen=True)
class Contest:
    """Two methods on the same sets, a against b; better is higher or lower as the measure says."""

    sets: int
    difference: Interval  # mean of a minus b
    win: float  # shares of the sets; they sum to one
    tie: float
    loss: float
    p: float  # of no difference, two-sided, by flipping signs
    least: float  # the least p that so many sets can have, whatever is found in them


def contest(a: Sequence[float], b: Sequence[float], better: Literal["higher", "lower"], tie: float = 0.0) -> Contest:
    """Compare paired values, one per set; a difference of at most `tie` is a tie.

    Differences of a few last bits, as two ways of adding up leave them, are none.

    Raises:
        ValueError: There is no set, or a value is not a finite number.
    """
    left, right = finite(a), finite(b)
    apart = left - right
    apart[np.abs(apart) <= _LAST_BITS * np.maximum(np.abs(left), np.abs(right))] = 0.0
    gain = apart if better == "higher" else -apart
    win, loss = float((gain > tie).mean()), float((gain < -tie).mean())
    even = float((np.abs(gain) <= tie).mean())
    return Contest(len(apart), bootstrap(apart), win, even, loss, sign_flips(apart), least_p(len(apart)))


def sign_flips(apart: Values, seed: int = 0) -> float:
    """Return the p-value of a mean difference of zero: how often other signs give as large a mean.

    All signs are counted where they are at most 2^16, which makes p exact. Of more, random ones are drawn, and the
    observed ones count as one draw, so that p is never zero.

    Raises:
        ValueError: There is no difference, or one is not a finite number.
    """
    known = finite(apart)
    moved = known[known != 0]
    if not len(moved):
        return 1.0
    reach = abs(moved.sum()) - _LAST_BITS * np.abs(moved).sum()
    if len(moved) <= EXACT:
        return float((np.abs(_all_signs(len(moved)) @ moved) >= reach).mean())
    reached = np.abs(_signs(len(moved), seed) @ moved) >= reach
    return float((1 + reached.sum()) / (1 + RESAMPLES))


def least_p(sets: int) -> float:
    """Return the least p-value that `sign_flips` gives for so many sets: all differ, and in the same direction."""
    return 2.0 ** (1 - sets) if 1 <= sets <= EXACT else 1 / (1 + RESAMPLES)


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979): all below a level hold at it together."""
    order = np.argsort(values, kind="stable")
    corrected = [0.0] * len(values)
    least = 0.0
    for place, index in enumerate(order):
        least = max(least, min(1.0, (len(values) - place) * values[index]))
        corrected[index] = least
    return corrected


def ranks(values: Sequence[float] | Values) -> Values:
    """Return ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(np.asarray(values, np.float64), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def spearman(a: Sequence[float] | Values, b: Sequence[float] | Values) -> float | None:
    """Return the rank correlation; None where one side does not vary."""
    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size else None


def rank_correlation(a: Values, b: Values, units: Sequence[str], seed: int = 0) -> Interval | None:
    """Return Spearman's correlation over pictures with an interval: whole sets are drawn again, not pictures.

    None where one side does not vary; no interval where there is one set only.
    """
    whole = spearman(a, b)
    if whole is None:
        return None
    names = sorted(set(units))
    label = np.asarray(units)
    own = [np.flatnonzero(label == name) for name in names]
    rng = np.random.default_rng(seed)
    found: list[float] = []
    for _ in range(_CORRELATIONS):
        rows = np.concatenate([own[index] for index in rng.integers(0, len(own), len(own))])
        once = spearman(a[rows], b[rows])
        found += [] if once is None else [once]
    if len(own) < 2 or not found:
        return Interval(whole, None, None)
    low, high = np.percentile(found, (2.5, 97.5))
    return Interval(whole, float(low), float(high))


@lru_cache(4)
def _signs(count: int, seed: int) -> Values:
    """Return random signs, [resamples, count]."""
    return np.random.default_rng(seed).choice((-1.0, 1.0), (RESAMPLES, count))


@lru_cache(2)
def _all_signs(count: int) -> Values:
    """Return all signs that differ in more than their direction, [2^(count - 1), count]: the first is always +."""
    numbers = np.arange(2 ** (count - 1))[:, None]
    return 1.0 - 2.0 * (numbers >> np.arange(count) & 1)[:, ::-1]
