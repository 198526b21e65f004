"""The weighted sum of deltas, sum_i w_i * delta_i, multiplied out: what LoRA Merge (arXiv:2402.16843) does in a step.

`mean` divides by the number of members that have a weight. This sums the products; PEFT's `linear` sums the factors,
whose product also holds the cross terms sqrt(w_1 w_2) * (up_1 down_2 + up_2 down_1), which are no part of any LoRA.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from composer.merges.common import Recipe, Weighted, counting, merge_layers, total
from lora_zoo.adapter import Adapter, DenseDelta


def linear(members: Sequence[Weighted], combine: Literal["sum", "mean"] = "sum") -> Adapter:
    """Return the weighted sum or mean, kept whole."""
    share = 1.0 / counting(members) if combine == "mean" and counting(members) else 1.0
    recipe = Recipe("linear", {"combine": combine})
    return merge_layers(recipe, members, lambda parts: DenseDelta(total(parts) * share))
