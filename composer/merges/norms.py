"""How large a delta is, from its factors; and how large a weight is."""

from __future__ import annotations

import torch
from torch import Tensor

from composer.merges.common import decompose, energy
from lora_zoo.adapter import Delta

_MOST_ROUNDS = 200
_SETTLED = 1e-5  # relative change between rounds


def frobenius(delta: Delta) -> float:
    """Return the root of the sum of squares of a delta's entries; nothing is multiplied out."""
    return max(energy(delta), 0.0) ** 0.5


def spectral(delta: Delta) -> float:
    """Return the greatest factor by which a delta can lengthen an input."""
    return float(decompose(delta)[1].max()) if frobenius(delta) else 0.0


def spectral_of_weight(weight: Tensor) -> float:
    """Return the same of a layer's weight, by power iteration: a whole decomposition of a large layer takes seconds.

    The estimate comes from below and is right to about 1e-3.
    """
    flat = weight.detach().flatten(1).float()
    vector = torch.randn(flat.shape[1], generator=torch.Generator().manual_seed(0)).to(flat.device)
    last = 0.0
    for _ in range(_MOST_ROUNDS):
        vector = vector / _length(vector).clamp(min=1e-30)
        image = flat @ vector
        norm = float(_length(image))
        if abs(norm - last) <= _SETTLED * norm:
            return norm
        vector, last = flat.mT @ image, norm
    return last


def _length(vector: Tensor) -> Tensor:
    return vector.square().sum().sqrt()
