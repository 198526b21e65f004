"""The arithmetic of one adapted layer, when all rows of a call have the same adapters and when they differ.

A call's rows follow a pattern of gates that repeats: with period p, row i has gate i % p. Weights of adapters are
folded into factors and copies beforehand, so that no gate is multiplied in a call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lora_zoo.adapter import Delta, DenseDelta, LowRank
from pipelines.packed import GroupedConv

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

    convolve: GroupedConv  # a group for each gate

    def __call__(self, x: Tensor) -> Tensor:
        out = self.convolve(x.reshape(x.shape[0] // self.convolve.groups, -1, *x.shape[2:]))
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

    base: Forward
    down: GroupedConv  # [period * rank, in, kh, kw]
    up: Tensor  # [rows, out, rank]

    def __call__(self, x: Tensor) -> Tensor:
        rows, _, rank = self.up.shape
        out = self.base(x).contiguous()
        hidden = self.down(x.reshape(rows // self.down.groups, -1, *x.shape[2:]))
        out.view(rows, out.shape[1], -1).baddbmm_(self.up, hidden.reshape(rows, rank, -1))
        return out


@dataclass(frozen=True, eq=False, slots=True)
class AddedWhole:
    """A layer plus deltas kept whole: a product as large as the layer's own, for the rows that need it."""

    base: Forward
    period: int
    deltas: dict[int, Forward]  # place in the pattern -> what is added there

    def __call__(self, x: Tensor) -> Tensor:
        out = self.base(x)
        for place, delta in self.deltas.items():
            mine = slice(place, x.shape[0], self.period)
            out[mine] += delta(x[mine])
        return out


def mixed(layer: Layer, weights: Sequence[Tensor]) -> tuple[Forward, int]:
    """Return a layer's stand-in for a pattern of merged weights, and the bytes it holds."""
    if isinstance(layer, nn.Linear):
        stacked = torch.stack([weight.mT for weight in weights])
        return MixedLinear(stacked, layer.bias), _bytes(stacked)
    stacked = torch.cat(list(weights))
    bias = None if layer.bias is None else layer.bias.repeat(len(weights))
    convolve = GroupedConv(layer, len(weights), stacked, bias)
    return MixedConv(convolve), convolve.bytes


def added(layer: Layer, pattern: Sequence[Weighted], rows: int) -> tuple[Forward, int]:
    """Return a layer's stand-in that adds each row's deltas, and the bytes it holds."""
    low = [[(d, w) for d, w in deltas if isinstance(d, LowRank)] for deltas in pattern]
    whole = [[(d, w) for d, w in deltas if isinstance(d, DenseDelta)] for deltas in pattern]
    forward, size = layer.forward, 0
    if any(low):
        downs, ups = _stack(low, layer.weight)
        forward, size = _low_rank(layer, downs, ups, rows)
    if any(whole):
        sums = {place: _alone(layer, deltas) for place, deltas in enumerate(whole) if deltas}
        forward = AddedWhole(forward, len(pattern), {place: one for place, (one, _) in sums.items()})
        size += sum(held for _, held in sums.values())
    return forward, size


def _low_rank(layer: Layer, downs: Tensor, ups: Tensor, rows: int) -> tuple[Forward, int]:
    period = downs.shape[0]
    ups = ups.repeat(rows // period, 1, 1)
    if isinstance(layer, nn.Linear):
        down, up = downs.mT.repeat(rows // period, 1, 1), ups.mT.contiguous()
        return AddedLinear(layer.forward, down, up), _bytes(down, up)
    convolve = GroupedConv(layer, period, downs.flatten(0, 1))
    return AddedConv(layer.forward, convolve, ups), convolve.bytes + _bytes(ups)


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


def _alone(layer: Layer, deltas: Sequence[tuple[DenseDelta, float]]) -> tuple[Forward, int]:
    """Return what deltas kept whole compute on their own, and the bytes it holds."""
    total = torch.stack([delta.dense() * strength for delta, strength in deltas]).sum(0)
    weight = total.reshape(layer.weight.shape).to(layer.weight)
    if isinstance(layer, nn.Linear):
        return partial(F.linear, weight=weight), _bytes(weight)
    convolve = GroupedConv(layer, 1, weight)
    return convolve, convolve.bytes


def _bytes(*tensors: Tensor) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
