"""Means with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A mean and the 95 % interval around it."""

    mean: float
    low: float
    high: float


def bootstrap(values: Sequence[float], seed: int = 0) -> Interval:
    """Return the mean of independent values (one per set, not per picture) with its percentile interval."""
    known = np.asarray(values, np.float64)
    rows = np.random.default_rng(seed).integers(0, len(known), (_RESAMPLES, len(known)))
    low, high = np.percentile(known[rows].mean(1), (2.5, 97.5))
    return Interval(float(known.mean()), float(low), float(high))
