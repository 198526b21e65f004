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
    """A mean and the 95 % interval around it."""

    mean: float
    low: float
    high: float


def bootstrap(values: Sequence[float] | Values, seed: int = 0) -> Interval:
    """Return the mean of independent values (one per set, not per picture) with its percentile interval."""
    known = np.asarray(values, np.float64)
    low, high = np.percentile(_draws(len(known), seed) @ known / len(known), (2.5, 97.5))
    return Interval(float(known.mean()), float(low), float(high))


@lru_cache(4)
def _draws(count: int, seed: int) -> Values:
    """Return how often each of `count` values is in each draw with replacement, [resamples, count]."""
    equal = np.full(count, 1 / count)
    return np.random.default_rng(seed).multinomial(count, equal, RESAMPLES).astype(np.float64)
