"""The doors into a UNet's cross-attention: parts of the picture that read prompts of their own.

What is done lies in front of the attention layers' `forward` for the time of one call; the layers' own processors are
neither replaced nor called. Layers that are not named by a door keep what they have.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from composer.masks import Mask, shares
from pipelines.fronts import in_front
from pipelines.local import grid


class CrossAttention:
    """The cross-attention layers of one UNet."""

    def __init__(self, unet: nn.Module) -> None:
        self._layers = {path: part for path, part in unet.named_modules() if getattr(part, "is_cross_attention", False)}

    def areas(self, rows: Sequence[tuple[Mask, ...]], height: int, width: int) -> AbstractContextManager[None]:
        """Let the image tokens inside each row's masks read a prompt of their own, for the calls inside.

        The text of a row is its own prompt and then that of each mask, all of one length. Latents: [height, width].
        """
        reading = _Areas(rows, height, width)
        return in_front({layer: _AreaAttention(layer, reading) for layer in self._layers.values()})


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
        query, key, value = _projected(self.layer, hidden_states, encoder_hidden_states)
        heads = zip(
            self.areas.shares(query.shape[2], query),
            key.chunk(self.areas.blocks, 2),
            value.chunk(self.areas.blocks, 2),
            strict=True,
        )
        read = sum(share * F.scaled_dot_product_attention(query, k, v) for share, k, v in heads)
        return _out(self.layer, cast(Tensor, read))


def _projected(layer: Any, hidden: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return query, key and value, [rows, heads, tokens, width of a head]."""

    def split(x: Tensor) -> Tensor:
        return x.unflatten(2, (layer.heads, -1)).transpose(1, 2)

    return split(layer.to_q(hidden)), split(layer.to_k(context)), split(layer.to_v(context))


def _out(layer: Any, read: Tensor) -> Tensor:
    return layer.to_out[0](read.transpose(1, 2).flatten(2))
