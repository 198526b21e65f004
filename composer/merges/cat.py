"""Concatenation: the exact weighted sum as one LoRA, down = [down_1; ...; down_N], up = [up_1, ..., up_N].

Its rank is the sum of the ranks. Weights are folded into both factors as sqrt(|w|), with the sign in `up` (PEFT's `cat`
folds them into `down`; the product is the same). A member kept whole makes the sum of its layer whole. Changes of
biases and normalisation add up beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

from composer.merges.common import Part, Recipe, Weighted, merge_layers, stacked, total
from lora_zoo.adapter import Adapter, Delta, DenseDelta, LowRank


def cat(members: Sequence[Weighted]) -> Adapter:
    """Return the weighted sum with nothing lost."""
    return merge_layers(Recipe("cat", {}), members, concatenate, sums=True)


def concatenate(parts: Sequence[Part]) -> Delta:
    """Return the sum of one layer's deltas, as factors if all are."""
    low = [part.delta for part in parts if isinstance(part.delta, LowRank)]
    return stacked(low) if len(low) == len(parts) else DenseDelta(total(parts))
