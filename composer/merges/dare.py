"""DARE (arXiv:2311.03099): drop entries of each delta at random, rescale the rest by 1 / density, then sum or TIES.

x_i = w_i * delta_i * keep_i / density with keep_i ~ Bernoulli(density), so that the expected delta is unchanged.
`dare` sums the x_i; `dare_ties` elects signs among them instead of trimming (see ties.py).
Deviations from PEFT: entries of the delta are dropped, not of its factors (whose product would be rescaled twice); each
draw follows the seed, the member's content and the layer, never the global random state, the order or the company.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from composer.merges.common import Part, Recipe, Weighted, merge_layers, seeded
from composer.merges.ties import Election, agreed_mean
from lora_zoo.adapter import Adapter, DenseDelta


def dare(members: Sequence[Weighted], density: float, seed: int = 0, rescale: bool = True) -> Adapter:
    """Return the sum of deltas thinned out to a density: 1 keeps all, 0 nothing."""
    recipe = Recipe("dare", {"density": density, "seed": seed, "rescale": rescale})
    return merge_layers(
        recipe, members, lambda parts: DenseDelta(torch.stack(_thinned(parts, density, seed, rescale)).sum(0))
    )


def dare_ties(
    members: Sequence[Weighted], density: float, seed: int = 0, elect: Election = "total", scale: float = 1.0
) -> Adapter:
    """Return the thinned deltas merged without the entries that disagree."""
    recipe = Recipe("dare_ties", {"density": density, "seed": seed, "elect": elect, "scale": scale})
    return merge_layers(
        recipe,
        members,
        lambda parts: DenseDelta(scale * agreed_mean(_thinned(parts, density, seed, rescale=True), elect)),
    )


def _thinned(parts: Sequence[Part], density: float, seed: int, rescale: bool) -> list[Tensor]:
    factor = 1.0 / density if rescale and density > 0 else 1.0
    deltas = [part.delta.dense() for part in parts]
    draws = [torch.rand(d.shape, generator=seeded(seed, p.origin)) for d, p in zip(deltas, parts, strict=True)]
    return [delta * (draw < density) * factor for delta, draw in zip(deltas, draws, strict=True)]
