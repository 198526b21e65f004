"""Magnitude pruning: of each delta only the entries of greatest magnitude stay, then the weighted sum.

PEFT's `magnitude_prune` and the trimming step of TIES (arXiv:2306.01708), per layer. Deviations from PEFT: entries of
the delta are pruned, not of its factors, whose entries mean nothing alone; entries equal to the least one kept stay
too, so that the result does not depend on how a sort breaks ties.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from composer.merges.common import Recipe, Weighted, merge_layers
from lora_zoo.adapter import Adapter, DenseDelta


def magnitude(members: Sequence[Weighted], density: float) -> Adapter:
    """Return the weighted sum of deltas pruned to a density: 1 keeps all, 0 nothing."""
    recipe = Recipe("magnitude", {"density": density})
    return merge_layers(
        recipe,
        members,
        lambda parts: DenseDelta(torch.stack([prune(part.delta.dense(), density) for part in parts]).sum(0)),
    )


def prune(delta: Tensor, density: float) -> Tensor:
    """Return a tensor with all but its greatest entries set to zero; any density above 0 keeps one at least."""
    size = delta.abs().flatten()
    count = min(max(round(density * size.numel()), 1 if density > 0 else 0), size.numel())
    if count == 0:
        return torch.zeros_like(delta)
    least = size.kthvalue(size.numel() - count + 1).values
    return torch.where(delta.abs() >= least, delta, 0.0)
