"""What attention layers tell during one call: probabilities, added up over the layers that tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from composer.plan import Attention
from pipelines.local import grid

if TYPE_CHECKING:
    from pipelines.reading import Conditioning


class Enough(Exception):
    """Every layer that tells has told; nothing after it is wanted."""


@dataclass(frozen=True, eq=False)
class _Places:
    """How the places of some rows read and resemble each other, [rows, places, places] each."""

    between: Tensor
    alike: Tensor


class Captured:
    """The attention of some rows of a call."""

    def __init__(self, rows: Sequence[int], resembling: Sequence[int], layers: int, ends: bool) -> None:
        self.rows = list(rows)  # that are told what they read
        self._resembling = list(resembling)  # and how their places go together
        self._ends = ends
        self._layers = layers
        self._missing = layers
        self._read: Tensor | None = None  # [rows, blocks, places, tokens]
        self._places: _Places | None = None
        self._self_layers = 0

    def read(self, query: Tensor, keys: Sequence[Tensor], leans: Sequence[Tensor | None]) -> None:
        """Add what one layer reads of each block of its text; all [rows, heads, tokens, width], leans a summand."""
        asks = query[self.rows] * query.shape[-1] ** -0.5
        told: list[Tensor] = []
        for key, lean in zip(keys, leans, strict=True):
            scores = asks @ key[self.rows].mT
            told.append((scores if lean is None else scores + lean[self.rows]).float().softmax(-1).mean(1))
        probabilities = torch.stack(told, 1)
        self._read = probabilities if self._read is None else self._read + probabilities
        self._missing -= 1
        if self._ends and not self._missing:
            raise Enough

    def resemble(self, query: Tensor, key: Tensor, barriers: Tensor | None, out: Tensor) -> None:
        """Add how places read each other in one layer's self-attention, and how alike what they make of it is."""
        rows = self._resembling
        scores = (query[rows] * query.shape[-1] ** -0.5) @ key[rows].mT
        between = (scores if barriers is None else scores + barriers[rows]).float().softmax(-1).mean(1)
        features = out[rows].float()
        alike, so_far = features @ features.mT, self._places
        self._places = (
            _Places(between, alike) if so_far is None else _Places(so_far.between + between, so_far.alike + alike)
        )
        self._self_layers += 1

    def attention(self, reads: Mapping[int, Conditioning], height: int, width: int) -> dict[int, Attention]:
        """Return what rows were told, by row, as means over layers; the latents are [height, width]."""
        if not self.rows:
            return {}
        if self._read is None or self._missing:
            raise RuntimeError(f"{self._missing} of {self._layers} layers did not tell what they read")
        size = grid(self._read.shape[2], height, width)
        maps = (self._read / self._layers).mT.unflatten(3, size)  # [rows, blocks, tokens, h, w]
        return {row: self._one(row, maps[place], reads[row]) for place, row in enumerate(self.rows)}

    def _one(self, row: int, maps: Tensor, read: Conditioning) -> Attention:
        own, *others = (_maps(one, block) for one, block in zip((read, *read.areas), maps, strict=True))
        areas = tuple(Attention(found, one.places) for found, one in zip(others, read.areas, strict=True))
        if self._places is None or row not in self._resembling:
            return Attention(own, read.places, areas)
        mine = self._resembling.index(row)
        between, alike = (one[mine] / self._self_layers for one in (self._places.between, self._places.alike))
        return Attention(own, read.places, areas, between, alike)


def _maps(read: Conditioning, found: Tensor) -> Tensor:
    """Return the maps of a prompt's tokens, [tokens, h, w], of those of a text that may say it several times over."""
    return found.unflatten(0, (-1, read.tokens)).sum(0)
