"""Concepts drawn into boxes by their attention: LoRA-Composer's losses, and its latents moved to where they belong.

All on maps of the size that attention tells, [n, h, w] of n words; a cell is inside a mask if at least half of it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from composer.found import smoothed
from composer.masks import Mask
from composer.plan import Attention

_TOP = 0.2  # of the cells inside, those that count
_SIGMA = 0.5  # of the smoothing, over 3x3 cells


@dataclass(frozen=True)
class Pulls:
    """How strongly each of the losses counts."""

    enhance: float
    fill: float
    isolate: float


@dataclass(frozen=True)
class Boxes:
    """The areas of a pass: each one's concept in words, and its mask. An empty mask has no concept."""

    words: Sequence[tuple[str, ...]]
    masks: Sequence[Mask]
    pulls: Pulls

    def loss(self, told: Attention) -> Tensor:
        """Return the losses of all areas, added up."""
        found = told.maps.sum() * 0.0
        for maps, within in self._placed(told):
            found = found + concept_loss(maps, within, self.pulls)
            if told.between is not None:
                found = found + leak_loss(told.between, within, self.pulls)
        return found

    def begun(self, latents: Tensor, told: Attention) -> Tensor:
        """Return the latents that areas begin with, by what a first look tells."""
        placed = self._placed(told)
        return moved(latents, [maps for maps, _ in placed], [within for _, within in placed])

    def _placed(self, told: Attention) -> list[tuple[Tensor, Tensor]]:
        """Return each area's maps of its words, and its cells."""
        found = [
            (torch.cat([area.of(word) for word in own]).float(), inside(mask, area.maps))
            for area, own, mask in zip(told.areas, self.words, self.masks, strict=True)
        ]
        return [(maps, within) for maps, within in found if len(maps) and bool(within.any())]


def inside(mask: Mask, maps: Tensor) -> Tensor:
    """Return which cells are in a mask, 0 or 1, [h, w]; of a mask smaller than a cell, the one that holds most."""
    found = mask.at(*maps.shape[-2:])
    return (found >= found.max().clamp(max=0.5)).logical_and(found > 0).to(maps)


def concept_loss(maps: Tensor, within: Tensor, pulls: Pulls) -> Tensor:
    """Return what a concept's words lack of being read strongly in the middle of their mask, and all over it."""
    read = smoothed(maps, _SIGMA) * within
    rows, columns = _extent(within)
    middle = torch.zeros_like(within)
    bell = _bell(rows.stop - rows.start)[:, None] * _bell(columns.stop - columns.start)
    middle[rows, columns] = bell.to(within)
    strong = (read * middle).flatten(1).topk(_count(within), dim=1).values.mean(1)
    across, down = ((read.amax(dim) - within.amax(dim - 1)).abs().mean(1) for dim in (1, 2))
    return (pulls.enhance * (1.0 - strong).clamp(min=0.0) + pulls.fill * (across + down)).sum()


def leak_loss(between: Tensor, within: Tensor, pulls: Pulls) -> Tensor:
    """Return how much the cells of a mask read what is outside, by self-attention [h * w, h * w]."""
    own = within.flatten() > 0
    if bool(own.all()):
        return between.sum() * 0.0
    return pulls.isolate * between[own][:, ~own].flatten().topk(_count(within)).values.mean()


def moved(latents: Tensor, maps: Sequence[Tensor], within: Sequence[Tensor]) -> Tensor:
    """Return latents in which each mask's place holds what was where its concept is read most.

    Of all windows of the mask's extent, that with the greatest sum of its words' attention is copied there. The mean
    and the standard deviation of the whole stay as they were.
    """
    result = latents.clone()
    for words, cells in zip(maps, within, strict=True):
        rows, columns = _extent(cells)
        window = torch.ones(1, 1, rows.stop - rows.start, columns.stop - columns.start).to(words)
        sums = F.conv2d(words.sum(0)[None, None], window)[0, 0]
        top, left = divmod(int(sums.argmax()), sums.shape[1])
        (down, height), (right, width) = (
            _stretch(part, start, whole, of)
            for part, start, whole, of in zip(
                (rows, columns), (top, left), latents.shape[-2:], words.shape[-2:], strict=True
            )
        )
        result[..., height, width] = latents[..., down, right]
    return (result - result.mean()) / result.std() * latents.std() + latents.mean()


def _stretch(cells: slice, start: int, whole: int, of: int) -> tuple[slice, slice]:
    """Return where to take latents and where to put them: cells that begin at `start`, and the mask's own cells."""
    scale = -(-whole // of)  # maps are halved and rounded up
    size = min(cells.stop * scale, whole) - cells.start * scale
    first = min(start * scale, whole - size)
    return slice(first, first + size), slice(cells.start * scale, cells.start * scale + size)


def _extent(within: Tensor) -> tuple[slice, slice]:
    """Return the rows and the columns that a mask spans."""
    rows, columns = (within.amax(dim).nonzero().flatten() for dim in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _count(within: Tensor) -> int:
    return max(1, int(_TOP * float(within.sum())))


def _bell(count: int) -> Tensor:
    """Return a Gaussian over so many cells from -1 to 1, its greatest value 1."""
    bell = torch.exp(-torch.linspace(-1, 1, count).square() / 2)
    return bell / bell.max()
