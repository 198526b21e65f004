"""What the readers of all kinds share: the parts of one layer, and the shapes they may have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lora_zoo.adapter import BaseLayer, Delta, DenseDelta, LowRank
from lora_zoo.keys import MAGNITUDE, ROW_MAGNITUDE
from lora_zoo.scaling import OftOptions, Scale

Shape = tuple[int, ...]


class Misfit(Exception):
    """Why the parts of one layer make no delta for it. Collected over the file, then reported together."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer as a file states it."""

    parts: Mapping[str, Tensor]  # float32, except for indices
    scale: Scale
    shape: Shape  # of the layer's weight
    base: Callable[[], BaseLayer]  # raises Misfit when the file is read without a model
    oft: OftOptions

    def weight(self) -> Tensor:
        """Return the layer's own weight in float32, where the parts are."""
        return self.base().weight.detach().to("cpu", torch.float32).reshape(self.shape)

    def without_magnitude(self) -> tuple[Layer, tuple[str, Tensor] | None]:
        """Return the layer without its magnitudes, and these, with the part's name."""
        for part in (MAGNITUDE, ROW_MAGNITUDE):
            if part in self.parts:
                rest = {name: tensor for name, tensor in self.parts.items() if name != part}
                return replace(self, parts=rest), (part, self.parts[part])
        return self, None


def product(up: Tensor, down: Tensor, shape: Shape) -> Delta:
    """Return up [out, rank] @ down [rank, in...] as factors, or whole where that takes less memory."""
    down = down.reshape(down.shape[0], *shape[1:])
    factors = LowRank(down=down, up=up)
    if down.numel() + up.numel() <= up.shape[0] * down[0].numel():
        return factors
    return DenseDelta(factors.dense())


def fit(name: str, tensor: Tensor, wanted: Shape) -> Tensor:
    """Return a part in the shape that the layer asks for; a 1x1 convolution is a linear layer, and the reverse."""
    if squeezed(tuple(tensor.shape)) != squeezed(wanted):
        raise Misfit(f"{name} {list(tensor.shape)} does not fit, it should be {list(wanted)}")
    return tensor.reshape(wanted)


def squeezed(shape: Shape) -> Shape:
    return shape[:2] if shape[2:] and set(shape[2:]) == {1} else shape


def matrix(name: str, tensor: Tensor) -> Tensor:
    """Return a part as a matrix, [n, m] or [n, m, 1, 1] in the file."""
    if len(squeezed(tuple(tensor.shape))) != 2:
        raise Misfit(f"{name} {list(tensor.shape)} is not a matrix")
    return tensor.reshape(tensor.shape[:2])


def same_rank(**ranks: int) -> int:
    """Return the rank that all of a layer's factors share."""
    if len(set(ranks.values())) > 1:
        shown = ", ".join(f"{name} {rank}" for name, rank in ranks.items())
        raise Misfit(f"factors of different ranks do not fit each other: {shown}")
    return next(iter(ranks.values()))
