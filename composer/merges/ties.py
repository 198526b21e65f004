"""TIES (arXiv:2306.01708): trim each delta, elect a sign per entry, average the entries that agree with it.

x_i = w_i * trim(delta_i); sigma = sign(sum_i x_i), or of the sum of signs with `frequency`; an entry with no majority
gets +. merged = scale * sum_i x_i [sign(x_i) = sigma] / max(1, how many agree).
Deviations from PEFT: this works on deltas, not on factors; signs are elected on weighted entries, so that a negative
weight votes for what it does. Deviation from the authors' code: trimming is per layer, not over all layers together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from composer.merges.common import Recipe, Weighted, merge_layers
from composer.merges.magnitude import prune
from lora_zoo.adapter import Adapter, DenseDelta

Election = Literal["total", "frequency"]


def ties(members: Sequence[Weighted], density: float, elect: Election = "total", scale: float = 1.0) -> Adapter:
    """Return the members merged without the entries that disagree; see the module for `elect` and `scale`."""
    recipe = Recipe("ties", {"density": density, "elect": elect, "scale": scale})
    return merge_layers(
        recipe,
        members,
        lambda parts: DenseDelta(scale * agreed_mean([prune(part.delta.dense(), density) for part in parts], elect)),
    )


def agreed_mean(tensors: Sequence[Tensor], elect: Election) -> Tensor:
    """Return, entry by entry, the mean of those values that have the elected sign. Zeros neither vote nor count."""
    stack = torch.stack(list(tensors))
    votes = stack.sign() if elect == "frequency" else stack
    positive = votes.sum(0) >= 0
    agrees = torch.where(positive, stack > 0, stack < 0)
    return (stack * agrees).sum(0) / agrees.sum(0).clamp(min=1)
