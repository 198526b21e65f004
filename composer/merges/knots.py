"""KnOTS (arXiv:2410.19735): align the members by one common decomposition, then TIES on what is their own.

[delta_1, ..., delta_N] = U S [V_1, ..., V_N]; merged = U S ties(V_1, ..., V_N). All members share U S, so entries of
the V_i speak about the same directions, which entries of the deltas do not. The result has rank sum r_i at most: the
decomposition is taken of a core of that size, never of the concatenated matrix.
Deviations: as in ties.py. Singular values that are zero but for rounding are left out, for trimming would see their V;
signs of singular vectors are settled, for an election without majority would depend on them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from composer.merges.common import Part, Recipe, Weighted, canonical, factored, from_svd, merge_layers, qr, split, svd
from composer.merges.magnitude import prune
from composer.merges.ties import Election, agreed_mean
from lora_zoo.adapter import Adapter, LowRank


def knots(members: Sequence[Weighted], density: float, elect: Election = "total", scale: float = 1.0) -> Adapter:
    """Return the members merged in their common basis; density 1 trims nothing."""
    recipe = Recipe("knots", {"density": density, "elect": elect, "scale": scale})
    return merge_layers(recipe, members, lambda parts: _merge(parts, density, elect, scale))


def _merge(parts: Sequence[Part], density: float, elect: Election, scale: float) -> LowRank:
    deltas = [factored(part.delta) for part in parts]
    left, core_left = qr(torch.cat([delta.up for delta in deltas], 1))
    rights = [qr(delta.down.flatten(1).mT) for delta in deltas]
    widths = [core.shape[0] for _, core in rights]
    places = zip(split(core_left, [delta.rank for delta in deltas], 1), rights, strict=True)
    core = torch.cat([block @ core_right.mT for block, (_, core_right) in places], 1)
    u, s, vh = svd(core)
    u, s, vh = canonical(left @ u, s, vh)
    blocks = [block @ right.mT for block, (right, _) in zip(split(vh, widths, 1), rights, strict=True)]
    merged = agreed_mean([prune(block, density) for block in blocks], elect)
    return from_svd(u, s, merged * scale, deltas[0].down)
