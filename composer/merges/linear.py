"""The weighted sum of deltas, sum_i w_i * delta_i, multiplied out: what LoRA Merge (arXiv:2402.16843) does in a step.

`mean` divides by the number of members. This sums the products; PEFT's `linear` sums the factors, whose product also
holds the cross terms sqrt(w_1 w_2) * (up_1 down_2 + up_2 down_1), which are no part of any of the LoRAs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from composer.merges.common import Recipe, Weighted, merge_layers, total
from lora_zoo.adapter import Adapter, DenseDelta


def linear(members: Sequence[Weighted], combine: Literal["sum", "mean"] = "sum") -> Adapter:
    """Return the weighted sum or mean, kept whole."""
    share = 1.0 / len(members) if combine == "mean" and members else 1.0
    shared = [Weighted(one.adapter, one.weight * share) for one in members]
    merged = merge_layers(Recipe("linear", {"combine": combine}), shared, lambda parts: DenseDelta(total(parts)))
    return Recipe("linear", {"combine": combine}).adapter(members, merged.layers)
