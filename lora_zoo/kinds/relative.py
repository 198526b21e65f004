"""Kinds that say their change relative to the weight they find: DoRA, GLoRA, IA3.

Each is a new weight W' for a layer; its delta is W' - W, which the layer's gate then scales. At weight 1.0 that is W'
itself, in between it is a straight line: for DoRA, W x + gate * ((c - 1) W x + c s B A x) with c = m / |W + s B A|.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lora_zoo.adapter import Delta, DenseDelta
from lora_zoo.keys import ROW_MAGNITUDE
from lora_zoo.kinds.common import Layer, Misfit, fit, matrix, same_rank


def decomposed(delta: Delta, magnitude: tuple[str, Tensor], layer: Layer) -> DenseDelta:
    """Give the rows (or columns) of weight + delta the lengths that were learned.

    PEFT's magnitudes are of rows always. LyCORIS's are of rows [out, 1, ...] or, in older files, of columns
    [1, in, ...], which their shape tells apart; without other dimensions, their number does where the two differ.
    """
    part, lengths = magnitude
    base, shape = layer.weight(), layer.shape
    rows, columns = (shape[0], *[1] * (len(shape) - 1)), (1, shape[1], *[1] * (len(shape) - 2))
    if part == ROW_MAGNITUDE and lengths.numel() == shape[0]:
        axis, lengths = 0, lengths.reshape(rows)
    elif part != ROW_MAGNITUDE and lengths.dim() == 1 and shape[0] != shape[1] and len(lengths) in shape[:2]:
        axis = 0 if len(lengths) == shape[0] else 1
        lengths = lengths.reshape(rows if axis == 0 else columns)
    elif part != ROW_MAGNITUDE and lengths.dim() == 1 and len(lengths) == shape[0]:
        raise Misfit(f"one-dimensional magnitudes do not tell rows from columns of a weight of {list(shape)}")
    elif part != ROW_MAGNITUDE and tuple(lengths.shape[:2]) in (rows[:2], columns[:2]) and lengths.dim() > 1:
        axis = 0 if tuple(lengths.shape[:2]) == rows[:2] else 1
        lengths = fit("magnitude", lengths, rows if axis == 0 else columns)
    else:
        raise Misfit(f"magnitudes {list(lengths.shape)} do not fit the rows or columns of a weight of {list(shape)}")
    changed = base.double() + delta.dense().reshape(shape)  # whose difference to the weight is small beside it
    others = [dim for dim in range(len(shape)) if dim != axis]
    norms = changed.square().sum(others, keepdim=True).sqrt()
    return DenseDelta((changed * (lengths / norms) - base).float())


def glora(layer: Layer) -> DenseDelta:
    """Add a low-rank delta and the weight times a low-rank matrix: s (W A + B).

    In old files the first of each pair is the narrow one, in new ones the second; their shapes tell.
    """
    p, shape = layer.parts, layer.shape
    a_up, a_down = _ordered(p["a1"], p["a2"], shape[1])
    b_up, b_down = _ordered(p["b1"], p["b2"], shape[0])
    rank = same_rank(a=a_up.shape[1], b=b_up.shape[1])
    if "bm" in p:
        core = fit("bm", p["bm"], (rank, rank, *shape[2:]))
        b_down = torch.einsum("pq...,qi->pi...", core, matrix("b", b_down))
    b_down = fit("b", b_down, (rank, *shape[1:]))
    a_up, a_down = fit("a", a_up, (shape[1], rank)), fit("a", a_down, (rank, shape[1]))
    mixed = torch.einsum("oi...,ir,rj->oj...", layer.weight(), a_up, a_down)
    added = torch.einsum("or,ri...->oi...", fit("b", b_up, (shape[0], rank)), b_down)
    return DenseDelta((mixed + added) * layer.scale.factor(rank))


def _ordered(one: Tensor, other: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return (up, down), where up has `size` rows."""
    if min(one.dim(), other.dim()) < 2:
        raise Misfit(f"factors {list(one.shape)} and {list(other.shape)} do not fit: they are no matrices")
    if one.shape[0] == size and one.shape[1] == other.shape[0]:
        return one, other
    if other.shape[0] == size and other.shape[1] == one.shape[0]:
        return other, one
    raise Misfit(f"factors {list(one.shape)} and {list(other.shape)} do not fit a width of {size}")


def ia3(layer: Layer) -> DenseDelta:
    """Stretch the inputs or outputs of a layer by 1 + w: LyCORIS's form, which leaves a bias as it is."""
    flag = layer.parts["on_input"]
    if flag.numel() != 1 or float(flag) not in (0.0, 1.0):
        raise Misfit("on_input is not true or false")
    stretch, axis = layer.parts["weight"], 1 if float(flag) else 0
    return DenseDelta(layer.weight() * _along(stretch, axis, layer.shape))


def ia3_peft(layer: Layer) -> DenseDelta:
    """Stretch the inputs or outputs of a layer by l: PEFT's form, where stretched outputs include the bias."""
    stretch, shape = layer.parts["weight"], layer.shape
    convolution = len(shape) == 4
    if stretch.dim() < 2:
        raise Misfit(f"ia3_l {list(stretch.shape)} does not tell whether it stretches inputs or outputs")
    if convolution and shape[0] == shape[1]:
        raise Misfit("ia3_l of a convolution with as many inputs as outputs does not tell which it stretches")
    axis = (0 if stretch.numel() == shape[0] else 1) if convolution else (0 if stretch.shape[-1] == 1 else 1)
    if axis == 0 and layer.base().bias is not None:
        raise Misfit("stretches the layer's bias as well, and adapters here change weights only")
    return DenseDelta(layer.weight() * (_along(stretch, axis, shape) - 1))


def _along(stretch: Tensor, axis: int, shape: tuple[int, ...]) -> Tensor:
    if stretch.numel() != shape[axis] or stretch.numel() != max(stretch.shape, default=1):
        raise Misfit(f"weight {list(stretch.shape)} does not fit dimension {axis} of a weight of {list(shape)}")
    return stretch.reshape([shape[axis] if dim == axis else 1 for dim in range(len(shape))])
