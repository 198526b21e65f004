"""How far a method's pictures, all together, are from drawn ones: KID and FID on the CLIP's features.

Features are of length sqrt(d), d their width. KID (arXiv:1801.01401): the unbiased squared MMD with the kernel
(x·y / d + 1)^3, mean and standard deviation over subsets, each of half of the pictures or fewer: subsets of all of them
would not differ.
FID (arXiv:1706.08500): the Fréchet distance of two Gaussians; it depends on how many pictures there are, so compare it
only between columns of equal counts. Neither is comparable with figures on Inception's features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.errors import BadMetric

Features = NDArray[np.float64]  # [pictures, width]
_SUBSETS, _SUBSET = 100, 100
_LEAST = 10  # pictures


@dataclass(frozen=True)
class Spread:
    """Distances of two piles of pictures."""

    pictures: int
    kid: float
    kid_deviation: float
    fid: float


def spread(made: Features, truth: Features, seed: int = 0) -> Spread:
    """Return how far pictures are from true ones."""
    if min(len(made), len(truth)) < _LEAST:
        raise BadMetric(f"KID and FID need at least {_LEAST} pictures on each side, not {len(made)} and {len(truth)}")
    rng = np.random.default_rng(seed)
    size = min(_SUBSET, len(made) // 2, len(truth) // 2)
    values = [
        squared_mmd(made[rng.permutation(len(made))[:size]], truth[rng.permutation(len(truth))[:size]])
        for _ in range(_SUBSETS)
    ]
    return Spread(len(made), float(np.mean(values)), float(np.std(values)), frechet(made, truth))


def squared_mmd(x: Features, y: Features) -> float:
    """Return the unbiased squared maximum mean discrepancy."""
    n, m = len(x), len(y)
    xx, yy, xy = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    own = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(own - 2 * xy.mean())


def frechet(x: Features, y: Features) -> float:
    """Return |mu_x - mu_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^1/2); the root's trace is taken of its eigenvalues."""
    cx, cy = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = _root(cx)
    crossed = np.clip(np.linalg.eigvalsh(root @ cy @ root), 0, None)
    mean = np.square(x.mean(0) - y.mean(0)).sum()
    return float(mean + np.trace(cx) + np.trace(cy) - 2 * np.sqrt(crossed).sum())


def _root(matrix: Features) -> Features:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def _kernel(x: Features, y: Features) -> Features:
    return (x @ y.T / x.shape[1] + 1) ** 3
