"""Parts of a picture, as values: known by what they are, and drawn at whatever size is asked for.

A mask holds, for each cell of a grid over the picture, how much of that cell is inside: 0 to 1. So a box's edge within
a cell is neither rounded nor lost, and boxes that meet at an edge add up to 1 there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

_NOTHING = 1e-4  # less of a cell than this is rounding


class Mask(Protocol):
    """A part of a picture. A hashable value."""

    def at(self, height: int, width: int) -> Tensor:
        """Return how much of each cell is inside, [height, width] in 0 to 1, float32 on the CPU."""
        ...


@dataclass(frozen=True)
class Box:
    """A rectangle, its sides as fractions of the picture's width and height."""

    left: float
    top: float
    right: float
    bottom: float

    def at(self, height: int, width: int) -> Tensor:
        return _covered(self.top, self.bottom, height)[:, None] * _covered(self.left, self.right, width)[None, :]


@dataclass(frozen=True)
class Drawn:
    """A mask given as a grid, one byte per cell, row by row: 255 is inside."""

    height: int
    width: int
    cells: bytes

    def at(self, height: int, width: int) -> Tensor:
        import torch
        from torch.nn import functional as F

        grid = torch.frombuffer(bytearray(self.cells), dtype=torch.uint8).reshape(1, 1, self.height, self.width)
        return F.interpolate(grid.float() / 255.0, (height, width), mode="area")[0, 0]


@dataclass(frozen=True)
class Rest:
    """What no other mask covers."""

    others: tuple[Mask, ...]

    def at(self, height: int, width: int) -> Tensor:
        import torch

        left = 1.0 - sum((mask.at(height, width) for mask in self.others), torch.zeros(height, width))
        return torch.where(left < _NOTHING, 0.0, left)


def shares(masks: Sequence[Mask], height: int, width: int) -> Tensor:
    """Return whose each cell is, [1 + masks, height, width], summing to 1: first what none covers.

    Where masks overlap they share the cell in proportion.
    """
    import torch

    drawn = torch.stack([mask.at(height, width) for mask in masks])
    drawn = drawn / drawn.sum(0).clamp(min=1.0)
    return torch.cat([(1.0 - drawn.sum(0, keepdim=True)).clamp(min=0.0), drawn])


def _covered(start: float, end: float, cells: int) -> Tensor:
    """Return how much of each of so many cells in a row lies between two fractions."""
    import torch

    edges = torch.linspace(0.0, 1.0, cells + 1, dtype=torch.float64)
    inside = edges[1:].clamp(max=end) - edges[:-1].clamp(min=start)
    return (inside.clamp(min=0.0) * cells).float()
