"""The doors into a UNet's cross-attention: prompts for parts of the picture, and what each place reads.

What is done lies in front of the attention layers' `forward` for the time of one call; the layers' own processors stay
as they are. Layers that a door has no business with keep what they have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from composer.masks import Mask, shares
from pipelines.changes import Forward
from pipelines.fronts import in_front
from pipelines.local import grid


class CrossAttention:
    """The cross-attention layers of one UNet."""

    def __init__(self, unet: nn.Module) -> None:
        self._layers = {path: part for path, part in unet.named_modules() if getattr(part, "is_cross_attention", False)}
        levels = {path: _level(path, len(cast(Any, unet).down_blocks)) for path in self._layers}
        told = max((level for path, level in levels.items() if path.startswith("down_blocks.")), default=None)
        self._telling = [self._layers[path] for path, level in levels.items() if level == told]

    def areas(self, rows: Sequence[tuple[Mask, ...]], height: int, width: int) -> AbstractContextManager[None]:
        """Let the image tokens inside each row's masks read a prompt of their own, for the calls inside.

        The text of a row is its own prompt and then that of each mask, all of one length. Latents: [height, width].
        """
        reading = _Areas(rows, height, width)
        return in_front({layer: _AreaAttention(layer, reading) for layer in self._layers.values()})

    def captured(self, rows: Sequence[int], ends: bool = False) -> AbstractContextManager[Captured]:
        """Collect what these rows of the call inside read, in the layers that tell; their outputs stay the same.

        If that is all that is wanted, `ends` raises `Enough` as soon as it is there.
        """
        found = Captured(list(rows), len(self._telling), ends)
        return _collecting(found, {layer: _Telling(layer, layer.forward, found) for layer in self._telling})


class Captured:
    """The cross-attention of some rows, added up over layers."""

    def __init__(self, rows: list[int], layers: int, ends: bool) -> None:
        self.rows = rows
        self.ends = ends
        self.missing = layers
        self._layers = layers
        self._total: Tensor | None = None

    def add(self, probabilities: Tensor) -> None:
        """Add one layer's probabilities, [rows, image tokens, tokens]."""
        self._total = probabilities if self._total is None else self._total + probabilities
        self.missing -= 1

    def maps(self, height: int, width: int) -> Tensor:
        """Return the mean over layers, [rows, tokens, h, w]; the latents are [height, width]."""
        if self._total is None or self.missing:
            raise RuntimeError(f"{self.missing} of {self._layers} layers did not tell what they read")
        return (self._total / self._layers).mT.unflatten(2, grid(self._total.shape[1], height, width))


class Enough(Exception):
    """Every layer that tells has told; nothing after it is wanted."""


@contextmanager
def _collecting(found: Captured, forwards: Mapping[nn.Module, Forward]) -> Iterator[Captured]:
    with in_front(forwards):
        yield found


@dataclass(frozen=True, eq=False)
class _Telling:
    """A layer that tells what some rows read."""

    layer: nn.Module
    under: Forward
    found: Captured

    def __call__(self, hidden_states: Tensor, encoder_hidden_states: Tensor, **others: Any) -> Tensor:
        query, key = _split(self.layer, "to_q", hidden_states), _split(self.layer, "to_k", encoder_hidden_states)
        query, key = query[self.found.rows], key[self.found.rows]
        scores = (query * query.shape[-1] ** -0.5) @ key.mT
        self.found.add(scores.float().softmax(-1).mean(1))
        if self.found.ends and not self.found.missing:
            raise Enough
        return self.under(hidden_states, encoder_hidden_states=encoder_hidden_states, **others)


class _Areas:
    """Which prompt each image token reads, at the sizes that the layers of one call have."""

    def __init__(self, rows: Sequence[tuple[Mask, ...]], height: int, width: int) -> None:
        self.blocks = 1 + len(rows[0])
        self._rows = rows
        self._size = (height, width)
        self._drawn: dict[int, Tensor] = {}

    def shares(self, tokens: int, like: Tensor) -> Tensor:
        """Return each prompt's share of each image token, [blocks, rows, 1, tokens, 1]."""
        if tokens not in self._drawn:
            size = grid(tokens, *self._size)
            known = {masks: shares(masks, *size).flatten(1) for masks in dict.fromkeys(self._rows)}
            drawn = torch.stack([known[masks] for masks in self._rows], 1)
            self._drawn[tokens] = drawn[:, :, None, :, None].to(like)
        return self._drawn[tokens]


@dataclass(frozen=True, eq=False)
class _AreaAttention:
    """Cross-attention to several prompts, each where it is read; the shares of an image token's prompts sum to 1."""

    layer: nn.Module
    areas: _Areas

    def __call__(self, hidden_states: Tensor, encoder_hidden_states: Tensor, **_unused: Any) -> Tensor:
        query = _split(self.layer, "to_q", hidden_states)
        key, value = (_split(self.layer, part, encoder_hidden_states) for part in ("to_k", "to_v"))
        heads = zip(
            self.areas.shares(query.shape[2], query),
            key.chunk(self.areas.blocks, 2),
            value.chunk(self.areas.blocks, 2),
            strict=True,
        )
        read = sum(share * F.scaled_dot_product_attention(query, k, v) for share, k, v in heads)
        return _out(self.layer, cast(Tensor, read))


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
