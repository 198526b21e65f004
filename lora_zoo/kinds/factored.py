"""Kinds whose delta is made of small factors alone: LoRA, LoCon, Tucker, LoHa, LoKr.

alpha / rank goes into one of the factors. Where a delta is exactly a product up @ down, it is kept as one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from lora_zoo.adapter import Delta, DenseDelta, LowRank
from lora_zoo.kinds.common import Layer, Misfit, Shape, fit, matrix, product, same_rank, squeezed


def low_rank(layer: Layer) -> LowRank:
    """Build the delta of a LoRA or LoCon layer, the scale folded into `up`."""
    down, up, shape = layer.parts["down"], layer.parts["up"], layer.shape
    rank = down.shape[0] if down.dim() else 0
    fits = squeezed(tuple(up.shape)) == (shape[0], rank) and squeezed(tuple(down.shape)) == squeezed((rank, *shape[1:]))
    if not fits:
        raise Misfit(f"down {list(down.shape)}, up {list(up.shape)} do not fit a weight of {list(shape)}")
    return LowRank(down=down.reshape(rank, *shape[1:]), up=up.reshape(shape[0], rank) * layer.scale.factor(rank))


def tucker(layer: Layer) -> LowRank:
    """Build the delta of a convolution in three factors: the kernel lies in the small one between the others."""
    down, mid, up = matrix("down", layer.parts["down"]), layer.parts["mid"], matrix("up", layer.parts["up"])
    rank = same_rank(down=down.shape[0], up=up.shape[1])
    down, up = fit("down", down, (rank, layer.shape[1])), fit("up", up, (layer.shape[0], rank))
    kernel = fit("mid", mid, (rank, rank, *layer.shape[2:]))
    return LowRank(down=torch.einsum("pq...,qi->pi...", kernel, down), up=up * layer.scale.factor(rank))


def loha(layer: Layer) -> Delta:
    """Build the elementwise product of two low-rank deltas: exactly of rank r², rows and columns multiplied out."""
    p = layer.parts
    if ("t1" in p) != ("t2" in p):
        raise Misfit("has one of t1 and t2, which come in pairs")
    if "t1" in p:
        first, rank = _core(p["w1_a"], p["w1_b"], p["t1"], layer.shape)
        second, other = _core(p["w2_a"], p["w2_b"], p["t2"], layer.shape)
        same_rank(w1=rank, w2=other)
        return DenseDelta(first * second * layer.scale.factor(rank))
    up1, down1 = _pair("w1", p["w1_a"], p["w1_b"], layer.shape)
    up2, down2 = _pair("w2", p["w2_a"], p["w2_b"], layer.shape)
    rank = same_rank(w1=up1.shape[1], w2=up2.shape[1])
    up = torch.einsum("or,os->ors", up1 * layer.scale.factor(rank), up2).flatten(1)
    return product(up, torch.einsum("ri,si->rsi", down1, down2).flatten(0, 1), layer.shape)


def lokr(layer: Layer) -> Delta:
    """Build the Kronecker product of two matrices, either or both of which may be in factors of their own."""
    p = layer.parts
    up1, down1, rank1 = _halves("w1", p)
    up2, down2, rank2 = _halves("w2", p)
    rows, columns = up1.shape[0] * up2.shape[0], down1.shape[1] * down2.shape[1]
    if (rows, columns) != (layer.shape[0], math.prod(layer.shape[1:])):
        raise Misfit(f"w1 and w2 make {rows} rows of {columns}, which do not fit a weight of {list(layer.shape)}")
    ranks = {name: rank for name, rank in (("w1", rank1), ("w2", rank2)) if rank}
    scale = layer.scale.factor(same_rank(**ranks)) if ranks else layer.scale.unfactored()
    if rank2:
        return product(torch.kron(up1, up2) * scale, torch.kron(down1, down2), layer.shape)
    whole = torch.kron(up1 @ down1, up2 @ down2) * scale
    return DenseDelta(whole.reshape(layer.shape))


def _halves(name: str, parts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, int]:
    """Return a Kronecker factor as up and down, and its rank; undivided it is its own `up`, and of rank 0."""
    whole, a, b = (parts.get(part) for part in (name, f"{name}_a", f"{name}_b"))
    core = parts.get("t2") if name == "w2" else None
    if whole is not None and a is None and b is None and core is None:
        up = whole.flatten(1) if whole.dim() > 1 else matrix(name, whole)
        return up, torch.eye(up.shape[1]), 0
    if whole is not None or a is None or b is None:
        raise Misfit(f"{name} is neither whole nor in two factors")
    if core is not None:  # a [rank, out], b [rank, in], and the kernel between them
        a, b = matrix(f"{name}_a", a), matrix(f"{name}_b", b)
        rank = same_rank(a=a.shape[0], b=b.shape[0])
        core = fit("t2", core, (rank, rank, *core.shape[2:]))
        return a.T.contiguous(), torch.einsum("pq...,qi->pi...", core, b).flatten(1).contiguous(), rank
    a, b = matrix(f"{name}_a", a), b.flatten(1) if b.dim() > 1 else matrix(f"{name}_b", b)
    return a, b, same_rank(a=a.shape[1], b=b.shape[0])


def _pair(name: str, a: Tensor, b: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """Return up [out, rank] and down [rank, in * kernel] of one half of a LoHa."""
    up = matrix(f"{name}_a", a)
    wide = (up.shape[1], math.prod(shape[1:]))
    if up.shape[0] != shape[0] or b.numel() != math.prod(wide) or b.shape[0] != wide[0]:
        raise Misfit(f"{name}_a {list(a.shape)}, {name}_b {list(b.shape)} do not fit a weight of {list(shape)}")
    return up, b.reshape(wide)


def _core(a: Tensor, b: Tensor, core: Tensor, shape: Shape) -> tuple[Tensor, int]:
    """Multiply out one half of a LoHa in Tucker form: a [rank, out], b [rank, in], and the kernel between them."""
    a, b = matrix("a", a), matrix("b", b)
    rank = same_rank(a=a.shape[0], b=b.shape[0])
    a, b = fit("a", a, (rank, shape[0])), fit("b", b, (rank, shape[1]))
    kernel = fit("core", core, (rank, rank, *shape[2:]))
    return torch.einsum("pq...,po,qi->oi...", kernel, a, b), rank
