"""Means with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean and the 95 % interval around it; no ends where there is nothing to tell them from, such as one value."""

    mean: float
    low: float | None
    high: float | None

    @property
    def ends(self) -> tuple[float, float] | None:
        """Both ends, if they are known."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def bootstrap(values: Sequence[float] | Values, seed: int = 0) -> Interval:
    """Return the mean of independent values (one per set, not per picture) with its percentile interval.

    One value has no interval. Values that are all equal have one of no width.

    Raises:
        ValueError: There is no value, or one is not a finite number: a mean of those would be no figure.
    """
    known = finite(values)
    if len(known) == 1:
        return Interval(float(known[0]), None, None)
    if (known == known[0]).all():  # a sum of shares could differ from it in the last bits
        return Interval(*[float(known[0])] * 3)
    low, high = np.percentile(_draws(len(known), seed) @ known / len(known), (2.5, 97.5))
    return Interval(float(known.mean()), float(low), float(high))


def finite(values: Sequence[float] | Values) -> Values:
    """Return values as an array of one dimension; none at all, or one that is not a finite number, is an error."""
    known = np.asarray(values, np.float64)
    if known.ndim != 1 or not len(known):
        raise ValueError(f"figures need one value per set and at least one set, not {known.shape}")
    if not np.isfinite(known).all():
        raise ValueError(f"figures need finite values, not {known[~np.isfinite(known)][0]}")
    return known


@lru_cache(4)
def _draws(count: int, seed: int) -> Values:
    """Return how often each of `count` values is in each draw with replacement, [resamples, count]."""
    equal = np.full(count, 1 / count)
    return np.random.default_rng(seed).multinomial(count, equal, RESAMPLES).astype(np.float64)
