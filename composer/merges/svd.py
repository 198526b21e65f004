"""Truncation: the best approximation of the weighted sum by a LoRA of rank k, U_k S_k V_k^T (Eckart and Young).

PEFT's `svd` merge, with two differences: alpha / rank counts once (theirs counts twice, as its weights and its deltas
both hold it), and the sum is decomposed through its factors, so no out x in matrix is formed.
Changes of biases and normalisation have no rank: their sum stays whole.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from composer.merges.cat import cat
from composer.merges.common import Recipe, Weighted, decompose, energy, from_svd, parts_by_layer, rank_of
from lora_zoo.adapter import Adapter, Delta, DenseDelta, LowRank

ENERGY = "medley.energy_kept"  # metadata of a truncated adapter: squared norm kept / whole, over all its layers

#: (component, layer) -> rank to cut to.
Ranks = Callable[[str, str], int]


def svd(members: Sequence[Weighted], rank: int = 0) -> Adapter:
    """Return the weighted sum cut to a rank; 0 takes in each layer the greatest rank among the members."""
    table = parts_by_layer(members)

    def wanted(component: str, path: str) -> int:
        return rank or max(rank_of(part.delta) for part in table[component][path])

    layers, kept = truncated(cat(members).layers, wanted)
    made = Recipe("svd", {"rank": rank}).adapter(members, layers, sums=True)
    return dataclasses.replace(made, metadata={**made.metadata, ENERGY: f"{kept:.6f}"})


def truncated(layers: Mapping[str, Mapping[str, Delta]], rank: Ranks) -> tuple[dict[str, dict[str, LowRank]], float]:
    """Return deltas as factors of at most these ranks, and the share of all squared norms that they keep."""
    cut: dict[str, dict[str, LowRank]] = {}
    kept = whole = 0.0
    for component, paths in layers.items():
        for path, delta in paths.items():
            made = cut.setdefault(component, {})[path] = _cut(delta, rank(component, path))
            whole += energy(delta)
            kept += energy(made)
    return cut, min(kept / whole, 1.0) if whole else 1.0


def _cut(delta: Delta, rank: int) -> LowRank:
    if isinstance(delta, LowRank) and delta.rank <= rank:
        return delta
    u, s, vh = decompose(delta)
    return from_svd(u[:, :rank], s[:rank], vh[:rank], delta.delta if isinstance(delta, DenseDelta) else delta.down)
