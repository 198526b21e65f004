"""The doors into a UNet's attention: prompts for parts of the picture, parts that do not see each other, what is read.

What is done lies in front of the attention layers' `forward` for the time of one call; the layers' own processors stay
as they are. Layers that a door has no business with keep what they have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from composer.masks import Mask, shares
from pipelines.captured import Captured
from pipelines.changes import Forward
from pipelines.fronts import in_front
from pipelines.local import grid


@dataclass(frozen=True)
class Spot:
    """A part of one row's picture that reads a prompt of its own."""

    mask: Mask
    alone: bool = False  # what is inside sees nothing inside the other spots, nor they it
    leans: tuple[tuple[int, float], ...] = ()  # tokens of its prompt -> what is added to their scores inside


@dataclass(frozen=True)
class RowWish:
    """What one row of a call wants of the attention layers. All rows of a call have the same number of spots."""

    spots: tuple[Spot, ...] = ()  # their prompts lie behind the row's own, all of one length
    tells: bool = False  # tell how much each place reads each token
    places: bool = False  # and how places read and resemble each other


class AttentionLayers:
    """The attention layers of one UNet's transformers."""

    def __init__(self, unet: nn.Module) -> None:
        named = {path: part for path, part in unet.named_modules() if path.endswith((".attn1", ".attn2"))}
        self._cross = {path: part for path, part in named.items() if cast(Any, part).is_cross_attention}
        self._self = {path: part for path, part in named.items() if path not in self._cross}
        levels = {path: _level(path, len(cast(Any, unet).down_blocks)) for path in self._cross}
        told = max((level for path, level in levels.items() if path.startswith("down_blocks.")), default=None)
        self._telling = [path for path, level in levels.items() if level == told]

    @contextmanager
    def opened(self, rows: Sequence[RowWish], height: int, width: int, ends: bool = False) -> Iterator[Captured]:
        """Grant these wishes in the call inside, of just these rows; the latents are [height, width].

        What rows are told is in what is yielded; that changes no output. If it is all that is wanted, `ends` raises
        `Enough` as soon as it is there. The layers that tell are those of the deepest down block with cross-attention,
        and of the up block at its resolution.
        """
        told = [place for place, row in enumerate(rows) if row.tells]
        resembling = [place for place, row in enumerate(rows) if row.places]
        telling = set(self._telling) if told else set[str]()
        beside = {path.removesuffix("2") + "1" for path in telling} & set(self._self) if resembling else set[str]()
        found = Captured(told, resembling, len(telling), ends)
        spots = _Spots(rows, height, width)
        fronts: dict[nn.Module, Forward] = {}
        for path, layer in self._cross.items():
            if spots.blocks > 1 or path in telling:
                fronts[layer] = _Cross(layer, layer.forward, spots, found if path in telling else None)
        for path, layer in self._self.items():
            if spots.apart or path in beside:
                fronts[layer] = _Self(layer, layer.forward, spots, found if path in beside else None)
        with in_front(fronts):
            yield found


class _Spots:
    """Where the spots of one call's rows are, at the sizes that its layers have."""

    def __init__(self, rows: Sequence[RowWish], height: int, width: int) -> None:
        self.blocks = 1 + len(rows[0].spots)
        self.apart = any(spot.alone for row in rows for spot in row.spots)
        self._rows = [row.spots for row in rows]
        self._size = (height, width)
        self._shares: dict[int, Tensor] = {}
        self._barriers: dict[int, Tensor] = {}

    def shares(self, places: int, like: Tensor) -> Tensor:
        """Return each prompt's share of each place, [blocks, rows, 1, places, 1]."""
        if places not in self._shares:
            size = grid(places, *self._size)
            masks = [tuple(spot.mask for spot in spots) for spots in self._rows]
            known = {some: shares(some, *size).flatten(1) for some in dict.fromkeys(masks)}
            drawn = torch.stack([known[some] for some in masks], 1)
            self._shares[places] = drawn[:, :, None, :, None].to(like)
        return self._shares[places]

    def leans(self, block: int, tokens: int, like: Tensor) -> Tensor | None:
        """Return what is added to the scores of a block's tokens, [rows, 1, 1, tokens]; None: nothing."""
        if block == 0 or not any(spots[block - 1].leans for spots in self._rows):
            return None
        added = torch.zeros(len(self._rows), tokens)
        for row, spots in enumerate(self._rows):
            for token, by in spots[block - 1].leans:
                added[row, token] += by
        return added[:, None, None, :].to(like)

    def barriers(self, places: int, like: Tensor) -> Tensor | None:
        """Return what is added to the scores between places, [rows, 1, places, places]; None: nothing.

        A place is inside a spot if at least half of it is. One inside two sees both.
        """
        if not self.apart:
            return None
        if places not in self._barriers:
            size = grid(places, *self._size)
            alone = [[spot.mask.at(*size) for spot in spots if spot.alone] for spots in self._rows]
            drawn = [self._closed(masks, places) for masks in alone]
            barriers = torch.zeros(len(drawn), places, places).masked_fill(torch.stack(drawn), -torch.inf)
            self._barriers[places] = barriers[:, None].to(like)
        return self._barriers[places]

    @staticmethod
    def _closed(masks: Sequence[Tensor], places: int) -> Tensor:
        """Return which places must not see which, [places, places]: those in spots, if they share none."""
        if not masks:
            return torch.zeros(places, places, dtype=torch.bool)
        inside = torch.stack([mask.flatten() >= 0.5 for mask in masks]).float()  # [spots, places]
        some = inside.any(0)
        return some[:, None] & some[None, :] & (inside.mT @ inside == 0)


@dataclass(frozen=True, eq=False)
class _Cross:
    """Cross-attention to several prompts, each where it is read; the shares of a place's prompts sum to 1."""

    layer: nn.Module
    under: Forward
    spots: _Spots
    found: Captured | None

    def __call__(self, hidden_states: Tensor, encoder_hidden_states: Tensor, **others: Any) -> Tensor:
        query, key = _split(self.layer, "to_q", hidden_states), _split(self.layer, "to_k", encoder_hidden_states)
        keys = key.chunk(self.spots.blocks, 2)
        leans = [self.spots.leans(block, one.shape[2], query) for block, one in enumerate(keys)]
        if self.found is not None:
            self.found.read(query, keys, leans)
        if self.spots.blocks == 1:
            return self.under(hidden_states, encoder_hidden_states=encoder_hidden_states, **others)
        values = _split(self.layer, "to_v", encoder_hidden_states).chunk(self.spots.blocks, 2)
        parts = zip(self.spots.shares(query.shape[2], query), keys, values, leans, strict=True)
        read = sum(share * F.scaled_dot_product_attention(query, k, v, lean) for share, k, v, lean in parts)
        return _out(self.layer, cast(Tensor, read))


@dataclass(frozen=True, eq=False)
class _Self:
    """Self-attention in which some parts of the picture do not see each other."""

    layer: nn.Module
    under: Forward
    spots: _Spots
    found: Captured | None

    def __call__(self, hidden_states: Tensor, **others: Any) -> Tensor:
        query, key = (_split(self.layer, part, hidden_states) for part in ("to_q", "to_k"))
        barriers = self.spots.barriers(query.shape[2], query)
        if barriers is None:
            out = self.under(hidden_states, **others)
        else:
            value = _split(self.layer, "to_v", hidden_states)
            out = _out(self.layer, F.scaled_dot_product_attention(query, key, value, barriers))
        if self.found is not None:
            self.found.resemble(query, key, barriers, out)
        return out


def _split(layer: Any, part: str, x: Tensor) -> Tensor:
    """Return what one projection makes of tokens, by heads: [rows, heads, tokens, width of a head]."""
    return getattr(layer, part)(x).unflatten(2, (layer.heads, -1)).transpose(1, 2)


def _out(layer: Any, read: Tensor) -> Tensor:
    return layer.to_out[0](read.transpose(1, 2).flatten(2))


def _level(path: str, count: int) -> int:
    """Return how often the latents are halved where this layer of a UNet of so many levels works."""
    part, place, *_ = path.split(".")
    if part == "mid_block":
        return count - 1
    return int(place) if part == "down_blocks" else count - 1 - int(place)
