"""Truncation: the best approximation of the weighted sum by a LoRA of rank k, U_k S_k V_k^T (Eckart and Young).

PEFT's `svd` merges, with two differences: alpha / rank counts once (theirs counts twice, for its weights and its deltas
both hold it), and the sum is decomposed through its factors, so no out x in matrix is formed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from composer.merges.cat import cat
from composer.merges.common import Part, Recipe, Weighted, decompose, factored, from_svd, largest_rank, parts_by_layer
from lora_zoo.adapter import Adapter, Delta

ENERGY = "medley.energy_kept"  # metadata of a truncated adapter: |kept|^2 / |whole|^2 over all its layers


def svd(members: Sequence[Weighted], rank: int = 0) -> Adapter:
    """Return the weighted sum cut to a rank; 0 takes each layer's greatest rank among the members."""
    whole = cat(members)
    largest = {
        component: {path: largest_rank(parts) for path, parts in paths.items()}
        for component, paths in parts_by_layer(members).items()
    }
    cut, energy = _cut(whole, lambda component, path: rank or largest[component][path])
    made = Recipe("svd", {"rank": rank}).adapter(members, cut)
    return dataclasses.replace(made, metadata={**made.metadata, ENERGY: repr(energy)})
