"""The arithmetic of one adapted layer: what is added to its output when rows have different adapters.

A call's rows follow a pattern of gates that repeats: with period p, row i has gate i % p. The layer adds up(down(x))
with each row's own factors, in two batched products whatever the number of adapters. Weights of adapters are folded
into `up` beforehand, so no gate is multiplied in a call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lora_zoo.adapter import Delta, DenseDelta, LowRank

#: (input of the layer, its output) -> its output, changed in place: it belongs to nobody else yet.
Change = Callable[[Tensor, Tensor], Tensor]

#: The deltas of one row's adapters on one layer, each with its weight.
Weighted = Sequence[tuple[Delta, float]]


def total_delta(deltas: Weighted) -> Tensor:
    """Return the weighted sum of deltas in the shape of the layer's weight, float32."""
    total = deltas[0][0].dense() * deltas[0][1]
    for delta, weight in deltas[1:]:
        total.add_(delta.dense(), alpha=weight)
    return total


def fused_weight(layer: nn.Linear | nn.Conv2d, deltas: Weighted) -> Tensor:
    """Return a copy of a layer's weight with deltas added; the layer keeps its own."""
    base = layer.weight.detach()
    delta = total_delta(deltas).to(base.device)
    return (base.float() + delta.reshape(base.shape)).to(base.dtype)


def build_change(layer: nn.Linear | nn.Conv2d, pattern: Sequence[Weighted], rows: int) -> tuple[Change, int]:
    """Return the change of one layer for rows whose deltas follow a pattern, and the bytes it holds."""
    low = [[(d, w) for d, w in deltas if isinstance(d, LowRank)] for deltas in pattern]
    dense = [[(d, w) for d, w in deltas if isinstance(d, DenseDelta)] for deltas in pattern]
    changes: list[tuple[Change, int]] = []
    if any(low):
        down, up = _stack(low, layer)
        changes.append(_low_rank(layer, down, up, rows))
    if any(dense):
        changes.append(_dense(layer, dense, rows))
    if len(changes) == 1:
        return changes[0]
    (first, some), (second, more) = changes
    return (lambda x, out: second(x, first(x, out))), some + more


def _stack(pattern: Sequence[Sequence[tuple[LowRank, float]]], layer: nn.Linear | nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Return downs [period, rank, in...] and ups [period, out, rank], padded with zeros to the greatest rank."""
    rank = max(sum(delta.rank for delta, _ in deltas) for deltas in pattern)
    weight = layer.weight
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


def _low_rank(layer: nn.Linear | nn.Conv2d, downs: Tensor, ups: Tensor, rows: int) -> tuple[Change, int]:
    repeats = rows // downs.shape[0]
    if isinstance(layer, nn.Linear):
        change = _LinearChange(downs.mT.repeat(repeats, 1, 1), ups.mT.repeat(repeats, 1, 1))
        return change, _bytes(change.down, change.up)
    change = _ConvChange(layer, downs.shape[0], downs.flatten(0, 1), ups.repeat(repeats, 1, 1))
    return change, _bytes(change.down, change.up)


@dataclass(frozen=True, eq=False, slots=True)
class _LinearChange:
    down: Tensor  # [rows, in, rank]
    up: Tensor  # [rows, rank, out]

    def __call__(self, x: Tensor, out: Tensor) -> Tensor:
        rows = self.down.shape[0]
        hidden = torch.bmm(x.reshape(rows, -1, x.shape[-1]), self.down)
        out = out.contiguous()
        out.view(rows, -1, out.shape[-1]).baddbmm_(hidden, self.up)
        return out


@dataclass(frozen=True, eq=False, slots=True)
class _ConvChange:
    """Rows beside each other as channels make one grouped convolution of all their downs."""

    layer: nn.Conv2d
    period: int
    down: Tensor  # [period * rank, in, kh, kw]
    up: Tensor  # [rows, out, rank]

    def __call__(self, x: Tensor, out: Tensor) -> Tensor:
        rows, _, rank = self.up.shape
        wide = x.reshape(rows // self.period, -1, *x.shape[2:])
        hidden = _convolve(self.layer, wide, self.down, self.period)
        out = out.contiguous()
        out.view(rows, out.shape[1], -1).baddbmm_(self.up, hidden.reshape(rows, rank, -1))
        return out


def _dense(layer: nn.Linear | nn.Conv2d, pattern: Sequence[Weighted], rows: int) -> tuple[Change, int]:
    """Return the change for deltas kept whole: a product as large as the layer's own, for the rows that need it."""
    weight = layer.weight
    deltas = {place: total_delta(some).to(weight).reshape(weight.shape) for place, some in enumerate(pattern) if some}
    period = len(pattern)

    def change(x: Tensor, out: Tensor) -> Tensor:
        for place, delta in deltas.items():
            mine = slice(place, rows, period)
            more = F.linear(x[mine], delta) if isinstance(layer, nn.Linear) else _convolve(layer, x[mine], delta, 1)
            out[mine] += more
        return out

    return change, _bytes(*deltas.values())


def _convolve(layer: nn.Conv2d, x: Tensor, weight: Tensor, groups: int) -> Tensor:
    padding = layer.padding if isinstance(layer.padding, str) else tuple(layer.padding)
    return F.conv2d(x, weight, None, layer.stride, padding, layer.dilation, groups)


def _bytes(*tensors: Tensor) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
