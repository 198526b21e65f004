"""The arithmetic of parameters of one dimension: biases, and normalisation layers, under the gates of a call's rows.

As in `changes.py`, rows follow a pattern of gates that repeats, and weights of adapters are folded in beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.changes import Forward

Norm = nn.GroupNorm | nn.LayerNorm

#: The changes of one row's adapters to one parameter, each with its weight.
Changes = tuple[tuple[Tensor, float], ...]


def vector_parameters(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of one dimension that adapters may change: biases, and all of normalisation layers."""
    kinds = nn.Linear | nn.Conv2d | nn.GroupNorm | nn.LayerNorm
    owners = ((path, part) for path, part in module.named_modules() if isinstance(part, kinds))
    return {
        f"{path}.{name}": p for path, part in owners for name, p in part.named_parameters(recurse=False) if p.ndim == 1
    }


def merged_vector(base: Tensor, changes: Changes) -> Tensor:
    """Return a copy of a parameter with changes added, summed in float32."""
    total = base.detach().float()
    for change, weight in changes:
        total = total.add(change.to(base.device), alpha=weight)
    return total.to(base.dtype)


@dataclass(frozen=True, eq=False, slots=True)
class Shifted:
    """A layer plus each row's own change of its bias."""

    base: Forward
    shifts: Tensor  # [period, out]
    first: bool  # channels are the first dimension after the rows, not the last

    def __call__(self, x: Tensor) -> Tensor:
        out = self.base(x)
        return out + over(self.shifts, out, self.first)


@dataclass(frozen=True, eq=False, slots=True)
class Renormed:
    """A normalisation layer with weights and biases for each gate of the pattern."""

    layer: Norm
    weights: Tensor  # [period, channels]
    biases: Tensor  # [period, channels]

    def __call__(self, x: Tensor) -> Tensor:
        first = isinstance(self.layer, nn.GroupNorm)
        return normalised(self.layer, x) * over(self.weights, x, first) + over(self.biases, x, first)


def shifted(layer: nn.Module, under: Forward, bias: Tensor, pattern: Sequence[Changes]) -> Shifted:
    """Return a stand-in that adds each row's change to what the layer, or its stand-in, gives."""
    shifts = torch.stack([merged_vector(torch.zeros_like(bias), changes) for changes in pattern])
    return Shifted(under, shifts, isinstance(layer, nn.Conv2d))


def renormed(layer: Norm, weights: Sequence[Changes], biases: Sequence[Changes]) -> Renormed:
    """Return a normalisation layer's stand-in."""
    return Renormed(
        layer,
        torch.stack([merged_vector(layer.weight, changes) for changes in weights]),
        torch.stack([merged_vector(layer.bias, changes) for changes in biases]),
    )


def normalised(layer: Norm, x: Tensor) -> Tensor:
    """Return what a normalisation layer makes of its input before its own weight and bias."""
    if isinstance(layer, nn.GroupNorm):
        return F.group_norm(x, layer.num_groups, eps=layer.eps)
    return F.layer_norm(x, layer.normalized_shape, eps=layer.eps)


def over(values: Tensor, x: Tensor, first: bool) -> Tensor:
    """Return [period, n] as it goes with rows like x: [rows, n, 1...] if channels come first, else [rows, 1..., n]."""
    rows = values.repeat(x.shape[0] // values.shape[0], 1)
    ones = (1,) * (x.ndim - 2)
    return rows.reshape(x.shape[0], -1, *ones) if first else rows.reshape(x.shape[0], *ones, -1)
