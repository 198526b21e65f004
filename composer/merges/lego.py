"""LoRA-LEGO (arXiv:2409.16167): pool the rank-1 units of all members, cluster them, make a LoRA of the centroids.

A unit is u = [a; b] for one row a of `down` and column b of `up`. k-means puts all units into k clusters; a centroid is
scaled to the mean norm of its members (parameter reweighting), and with `reweight` the merged delta by sqrt(r / k), r
being the greatest rank among the members (output reweighting, whose form in the paper could not be checked).
Deviations: units are those of each member's singular value decomposition, with a and b of equal norm, since a LoRA's
own rank basis is arbitrary; (a, b) and (-a, -b) count as the same unit, of settled sign where a centre favours neither;
k-means starts from units far apart, chosen greedily, so that there is no seed and the order of members does not matter.
Centroids are combinations of units, so that clustering needs only the units' scalar products.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from composer.merges.common import Part, Recipe, Weighted, decompose, factored, merge_layers
from lora_zoo.adapter import Adapter, LowRank

_ROUNDS = 100
_SAME = 1e-10  # units nearer than this (squared), relative to the largest, are one
_ALIKE = 1e-5  # a unit turns its sign only for a centre it is more opposed to than this cosine: 0 stands for rounding


def lego(members: Sequence[Weighted], rank: int = 0, reweight: bool = True) -> Adapter:
    """Return a LoRA of this rank made of cluster centres; rank 0 takes each layer's greatest among the members."""
    recipe = Recipe("lego", {"rank": rank, "reweight": reweight})
    return merge_layers(recipe, members, lambda parts: _merge(parts, rank, reweight))


def _merge(parts: Sequence[Part], rank: int, reweight: bool) -> LowRank:
    deltas = [factored(part.delta) for part in parts]
    units = [_units(delta) for delta in deltas]
    a, b = torch.cat([a for a, _ in units]).double(), torch.cat([b for _, b in units]).double()
    largest = max(len(a) for a, _ in units)
    gram = a @ a.mT + b @ b.mT
    if not len(gram):  # all deltas are zero
        return deltas[0]
    centres = _centres(gram, rank or largest)
    output = (largest / len(centres)) ** 0.25 if reweight else 1.0  # on both factors: its square root squared
    down, up = (centres @ a * output).float(), (centres @ b * output).float()
    return LowRank(down.reshape(-1, *deltas[0].down.shape[1:]), up.mT)


def _units(delta: LowRank) -> tuple[Tensor, Tensor]:
    """Return the rows a [r, in] and columns b [r, out] of a delta's units."""
    u, s, vh = decompose(delta)
    root = s.sqrt()[:, None]
    return root * vh, root * u.mT


def _centres(gram: Tensor, count: int) -> Tensor:
    """Return the centroids as weights of units [clusters, units], norms restored."""
    weights = torch.eye(len(gram), dtype=gram.dtype)[_spread(gram, count)]
    for _ in range(_ROUNDS):
        moved = _means(weights, gram)
        if moved.shape == weights.shape and torch.equal(moved, weights):
            break
        weights = moved
    norms = ((weights @ gram) * weights).sum(1).clamp(min=0).sqrt()
    wanted = (weights != 0).to(gram.dtype) @ gram.diagonal().sqrt() / (weights != 0).sum(1)
    return weights * torch.where(norms > 0, wanted / norms, 1.0)[:, None]


def _means(weights: Tensor, gram: Tensor) -> Tensor:
    """Give every unit, with the better of its signs, to the nearest centre; return the means of those that have any."""
    products = weights @ gram
    squares = (products * weights).sum(1, keepdim=True)
    nearest = (squares - 2 * products.abs()).argmin(0)
    every = torch.arange(len(gram))
    opposite = products < -_ALIKE * (squares.clamp(min=0) * gram.diagonal()).sqrt()
    members = torch.zeros_like(products)
    members[nearest, every] = torch.where(opposite, -1.0, 1.0).to(gram.dtype)[nearest, every]
    members = members[members.abs().sum(1) > 0]
    return members / members.abs().sum(1, keepdim=True)


def _spread(gram: Tensor, count: int) -> list[int]:
    """Return units far apart: the largest, then each time the one farthest from all before."""
    sizes = gram.diagonal()
    chosen = [int(sizes.argmax())]
    while len(chosen) < min(count, len(gram)):
        apart = (sizes[:, None] + sizes[chosen] - 2 * gram[:, chosen].abs()).amin(1)
        if float(apart.max()) <= _SAME * float(sizes.max()):
            break
        chosen.append(int(apart.argmax()))
    return chosen
