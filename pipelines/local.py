"""Adapters that act in a part of the picture only: their change of a layer's output, times a mask of the layer's size.

h' = h + sum_i m_i * (delta_i x + b_i), b_i a change of bias; a changed normalisation adds m_i * (w_i * n(x) + b_i),
with n(x) what is normalised. What m is depends on what the layer sees: image tokens or cells take the mask drawn at
their size; the words of a text are blocks, one per prompt, and an adapter acts on its own block; a layer without places
(of the timestep's embedding) takes the mask's mean. So a full mask is the plain LoRA and an empty one the base model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from composer.masks import Mask
from lora_zoo.adapter import Delta, LowRank
from pipelines.changes import Forward, Layer
from pipelines.vectors import Norm, normalised, over


@dataclass(frozen=True)
class Where:
    """Where an adapter acts: in a mask over the latents, and in one block of the text."""

    mask: Mask
    height: int  # of the latents
    width: int
    block: int
    blocks: int
    tokens: int = 0  # of the block's prompt, which the block may repeat
    without: tuple[int, ...] = ()  # those of them that are left alone


@dataclass(frozen=True)
class Local:
    """An adapter of one row that acts somewhere only."""

    digest: str
    weight: float
    where: Where


#: The adapters of one row that act somewhere only, in order.
LocalGate = tuple[Local, ...]


@dataclass(frozen=True, eq=False)
class Term:
    """What one adapter adds to one row of a layer's output."""

    row: int
    delta: Delta | None
    weight: float
    where: Where
    vectors: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])  # of "bias"; of norms also of "weight"


class Drawings:
    """Masks as one call's layers need them, each drawn once per size."""

    def __init__(self) -> None:
        self._drawn: dict[tuple[Mask, int, int], Tensor] = {}

    def at(self, mask: Mask, height: int, width: int, like: Tensor) -> Tensor:
        """Return [height, width]."""
        if (mask, height, width) not in self._drawn:
            self._drawn[mask, height, width] = mask.at(height, width).to(like)
        return self._drawn[mask, height, width]

    def of_tokens(self, where: Where, tokens: int, like: Tensor) -> Tensor:
        """Return the mask of so many image tokens, [tokens]."""
        return self.at(where.mask, *grid(tokens, where.height, where.width), like).flatten()


def grid(tokens: int, height: int, width: int) -> tuple[int, int]:
    """Return the rows and columns of image tokens: the latents', halved and rounded up as often as it takes."""
    rows, columns = height, width
    while rows * columns > tokens:
        rows, columns = -(-rows // 2), -(-columns // 2)
    if rows * columns != tokens:
        raise RuntimeError(f"{tokens} tokens are no grid over latents of {height}x{width}")
    return rows, columns


@dataclass(frozen=True, eq=False, slots=True)
class _LocalLayer:
    """A layer plus what local adapters add, row by row."""

    layer: Layer | Norm
    under: Forward
    terms: Sequence[Term]
    drawings: Drawings
    reads_text: bool

    def __call__(self, x: Tensor) -> Tensor:
        out = self.under(x)
        added = torch.zeros_like(out)
        for term in self.terms:
            mine = slice(term.row, term.row + 1)
            change = _change(self.layer, term, x[mine], out[mine]) * term.weight
            added[mine] += change * self._mask(term.where, out[mine])
        return out + added

    def _mask(self, where: Where, out: Tensor) -> Tensor:
        if out.ndim == 4:
            return self.drawings.at(where.mask, out.shape[-2], out.shape[-1], out)
        if out.ndim == 2:
            return self.drawings.at(where.mask, where.height, where.width, out).mean()
        if self.reads_text:
            return _words(where, out.shape[1]).to(out)[:, None]
        return self.drawings.of_tokens(where, out.shape[1], out)[:, None]


def _words(where: Where, tokens: int) -> Tensor:
    """Return which tokens of a text of several blocks an adapter acts on, [tokens]."""
    place, length = torch.arange(tokens), tokens // where.blocks
    inside = place // length == where.block
    if not where.without:
        return inside
    return inside & ~torch.isin(place % length % where.tokens, torch.tensor(where.without))


def local_layer(
    layer: Layer | Norm, under: Forward, terms: Sequence[Term], drawings: Drawings, reads_text: bool
) -> Forward:
    """Return a layer's stand-in that adds these terms to what `under` returns."""
    return _LocalLayer(layer, under, terms, drawings, reads_text)


def _change(layer: Layer | Norm, term: Term, x: Tensor, out: Tensor) -> Tensor:
    """Return what a term adds to a layer's output where its mask is 1, or what is broadcast to that."""
    first = isinstance(layer, nn.Conv2d | nn.GroupNorm)
    weight, bias = (term.vectors.get(name) for name in ("weight", "bias"))
    found = out.new_zeros(()) if term.delta is None or isinstance(layer, Norm) else _product(layer, term.delta, x)
    if weight is not None and isinstance(layer, Norm):
        found = normalised(layer, x) * over(weight.to(x)[None], x, first)
    return found if bias is None else found + over(bias.to(out)[None], out, first)


def _product(layer: Layer, delta: Delta, x: Tensor) -> Tensor:
    """Return delta x, without the layer's bias."""
    if isinstance(layer, nn.Linear):
        if isinstance(delta, LowRank):
            return F.linear(F.linear(x, delta.down.flatten(1).to(x)), delta.up.to(x))
        return F.linear(x, delta.delta.flatten(1).to(x))
    padding = layer.padding if isinstance(layer.padding, str) else tuple(layer.padding)
    down = delta.down if isinstance(delta, LowRank) else delta.delta
    hidden = F.conv2d(x, down.reshape(-1, *layer.weight.shape[1:]).to(x), None, layer.stride, padding, layer.dilation)
    return F.conv2d(hidden, delta.up[..., None, None].to(x)) if isinstance(delta, LowRank) else hidden
