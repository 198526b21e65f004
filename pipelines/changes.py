"""The arithmetic of one adapted layer, when all rows of a call have the same adapters and when they differ.

A call's rows follow a pattern of gates that repeats: with period p, row i has gate i % p. Weights of adapters are
folded into factors and copies beforehand, so that no gate is multiplied in a call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lora_zoo.adapter import Delta, DenseDelta, LowRank

Layer = nn.Linear | nn.Conv2d

#: What stands in for a layer's `forward`.
Forward = Callable[..., Tensor]

#: The deltas of one row's adapters on one layer, each with its weight.
Weighted = tuple[tuple[Delta, float], ...]


def merged_weight(layer: Layer, deltas: Weighted) -> Tensor:
    """Return a copy of a layer's weight with deltas added, summed in float32; the layer keeps its own."""
    base = layer.weight.detach()
    total = base.float()
    for delta, weight in deltas:
        total = total.add(delta.dense().to(base.device).reshape(base.shape), alpha=weight)
    return total.to(base.dtype)


@dataclass(frozen=True, eq=False, slots=True)
class MixedLinear:
    """A linear layer with a merged weight for each gate of the pattern: one product, as large as the layer's own."""

    weights: Tensor  # [period, in, out]
    bias: Tensor | None  # [out]

    def __call__(self, x: Tensor) -> Tensor:
        period, inside, outside = self.weights.shape
        rows = x.reshape(x.shape[0], -1, inside)
        if torch.is_grad_enabled():  # what follows writes into a given tensor, which has no gradient
            out = torch.matmul(rows.unflatten(0, (-1, period)), self.weights).flatten(0, 1)
            return (out if self.bias is None else out + self.bias).reshape(*x.shape[:-1], outside)
        out = x.new_empty(rows.shape[0], rows.shape[1], outside)
        for start in range(0, rows.shape[0], period):  # the pattern repeats twice with guidance, else once
            part = slice(start, start + period)
            if self.bias is None:
                torch.bmm(rows[part], self.weights, out=out[part])
            else:
                torch.baddbmm(self.bias, rows[part], self.weights, out=out[part])
        return out.reshape(*x.shape[:-1], outside)


@dataclass(frozen=True, eq=False, slots=True)
class MixedConv:
    """A convolution with a merged weight for each gate of the pattern.

    Rows of the pattern, put beside each other as channels, make one grouped convolution.
    """

    layer: nn.Conv2d
    period: int
    weights: Tensor  # [period * out, in, kh, kw]
    bias: Tensor | None  # [period * out]

    def __call__(self, x: Tensor) -> Tensor:
        wide = x.reshape(x.shape[0] // self.period, -1, *x.shape[2:])
        out = _convolve(self.layer, wide, self.weights, self.period, self.bias)
        return out.reshape(x.shape[0], -1, *out.shape[2:])


@dataclass(frozen=True, eq=False, slots=True)
class AddedLinear:
    """A linear layer plus each row's own up(down(x)): two thin products whatever the number of adapters."""

    base: Forward
    down: Tensor  # [rows, in, rank]
    up: Tensor  # [rows, rank, out]

    def __call__(self, x: Tensor) -> Tensor:
        rows = self.down.shape[0]
        out = self.base(x).contiguous()
        hidden = torch.bmm(x.reshape(rows, -1, x.shape[-1]), self.down)
        out.view(rows, -1, out.shape[-1]).baddbmm_(hidden, self.up)
        return out


@dataclass(frozen=True, eq=False, slots=True)
class AddedConv:
    """A convolution plus each row's own up(down(x)), its downs in one grouped convolution as in `MixedConv`."""

    layer: nn.Conv2d
    base: Forward
    period: int
    down: Tensor  # [period * rank, in, kh, kw]
    up: Tensor  # [rows, out, rank]

    def __call__(self, x: Tensor) -> Tensor:
        rows, _, rank = self.up.shape
        out = self.base(x).contiguous()
        wide = x.reshape(rows // self.period, -1, *x.shape[2:])
        hidden = _convolve(self.layer, wide, self.down, self.period)
        out.view(rows, out.shape[1], -1).baddbmm_(self.up, hidden.reshape(rows, rank, -1))
        return out


@dataclass(frozen=True, eq=False, slots=True)
class AddedWhole:
    """A layer plus deltas kept whole: a product as large as the layer's own, for the rows that need it."""

    layer: Layer
    base: Forward
    period: int
    deltas: dict[int, Tensor]  # place in the pattern -> the shape of the layer's weight

    def __call__(self, x: Tensor) -> Tensor:
        out = self.base(x)
        for place, delta in self.deltas.items():
            mine = slice(place, x.shape[0], self.period)
            if isinstance(self.layer, nn.Linear):
                out[mine] += F.linear(x[mine], delta)
            else:
                out[mine] += _convolve(self.layer, x[mine], delta, 1)
        return out


def mixed(layer: Layer, weights: Sequence[Tensor]) -> tuple[Forward, int]:
    """Return a layer's stand-in for a pattern of merged weights, and the bytes it holds."""
    if isinstance(layer, nn.Linear):
        stacked = torch.stack([weight.mT for weight in weights])
        return MixedLinear(stacked, layer.bias), _bytes(stacked)
    stacked = torch.cat(list(weights))
    bias = None if layer.bias is None else layer.bias.repeat(len(weights))
    return MixedConv(layer, len(weights), stacked, bias), _bytes(stacked)


def added(layer: Layer, pattern: Sequence[Weighted], rows: int) -> tuple[Forward, int]:
    """Return a layer's stand-in that adds each row's deltas, and the bytes it holds."""
    low = [[(d, w) for d, w in deltas if isinstance(d, LowRank)] for deltas in pattern]
    whole = [[(d, w) for d, w in deltas if isinstance(d, DenseDelta)] for deltas in pattern]
    forward, size = layer.forward, 0
    if any(low):
        downs, ups = _stack(low, layer.weight)
        forward = _low_rank(layer, downs, ups, rows)
        size += _bytes(forward.down, forward.up)
    if any(whole):
        sums = {place: _total(deltas, layer.weight) for place, deltas in enumerate(whole) if deltas}
        forward = AddedWhole(layer, forward, len(pattern), sums)
        size += _bytes(*sums.values())
    return forward, size


def _low_rank(layer: Layer, downs: Tensor, ups: Tensor, rows: int) -> AddedLinear | AddedConv:
    period = downs.shape[0]
    ups = ups.repeat(rows // period, 1, 1)
    if isinstance(layer, nn.Linear):
        return AddedLinear(layer.forward, downs.mT.repeat(rows // period, 1, 1), ups.mT.contiguous())
    return AddedConv(layer, layer.forward, period, downs.flatten(0, 1), ups)


def _stack(pattern: Sequence[Sequence[tuple[LowRank, float]]], weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return downs [period, rank, in...] and ups [period, out, rank], padded with zeros to the greatest rank."""
    rank = max(sum(delta.rank for delta, _ in deltas) for deltas in pattern)
    downs = weight.new_zeros(len(pattern), rank, *weight.shape[1:])
    ups = weight.new_zeros(len(pattern), weight.shape[0], rank)
    for place, deltas in enumerate(pattern):
        start = 0
        for delta, strength in deltas:
            end = start + delta.rank
            downs[place, start:end] = delta.down.reshape(delta.rank, *weight.shape[1:]).to(weight)
            ups[place, :, start:end] = (delta.up.float() * strength).to(weight)
            start = end
    return downs, ups


def _total(deltas: Sequence[tuple[DenseDelta, float]], weight: Tensor) -> Tensor:
    total = torch.stack([delta.dense() * strength for delta, strength in deltas]).sum(0)
    return total.reshape(weight.shape).to(weight)


def _convolve(layer: nn.Conv2d, x: Tensor, weight: Tensor, groups: int, bias: Tensor | None = None) -> Tensor:
    padding = layer.padding if isinstance(layer.padding, str) else tuple(layer.padding)
    return F.conv2d(x, weight, bias, layer.stride, padding, layer.dilation, groups)


def _bytes(*tensors: Tensor) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
