"""LyCORIS's and kohya's OFT and BOFT: the outputs of a layer are rotated, in blocks or in a butterfly of blocks."""

from __future__ import annotations

import torch
from torch import Tensor

from lora_zoo.adapter import DenseDelta
from lora_zoo.kinds.common import Layer, Misfit


def oft(layer: Layer) -> DenseDelta:
    """Rotate the rows of a weight, block by block, and stretch them if the file has a `rescale`.

    Three dimensions of `oft_blocks` are OFT, four are BOFT: so many stages of blocks. The bias stays as it is.
    Double precision: what a small rotation changes is a difference of nearly equal weights.
    """
    blocks, shape = layer.parts["blocks"], layer.shape
    wide = blocks.dim() in (3, 4) and blocks.shape[-1] == blocks.shape[-2]
    if not wide or blocks.shape[-3] * blocks.shape[-1] != shape[0]:
        raise Misfit(f"blocks {list(blocks.shape)} do not fit a weight of {list(shape)}")
    base = layer.weight().double()
    turns = _rotations(blocks.double(), layer.scale.alpha * shape[0])
    turned = _butterfly(base, turns) if blocks.dim() == 4 else _blockwise(base, turns.mT)
    rescale = layer.parts.get("rescale")
    if rescale is not None:
        if rescale.numel() != shape[0] or rescale.shape[0] != shape[0]:
            raise Misfit(f"rescale {list(rescale.shape)} does not fit a weight of {list(shape)}")
        turned = turned * rescale.reshape(-1, *[1] * (len(shape) - 1))
    return DenseDelta((turned - base).float())


def _rotations(blocks: Tensor, largest: float) -> Tensor:
    """Return the Cayley transform of each block: alpha bounds how far all blocks together may turn, 0 does not."""
    skew = blocks - blocks.mT
    norm = float(skew.square().sum().sqrt())
    if 0 < largest < norm:
        skew = skew * (largest / norm)
    eye = torch.eye(blocks.shape[-1], dtype=blocks.dtype)
    return (eye + skew) @ (eye - skew).inverse()


def _blockwise(weight: Tensor, turns: Tensor) -> Tensor:
    """Multiply each block of rows with its matrix."""
    rows = weight.reshape(turns.shape[0], turns.shape[1], -1)
    return (turns @ rows).reshape(weight.shape)


def _butterfly(weight: Tensor, stages: Tensor) -> Tensor:
    """Apply the stages: in stage i, a block mixes rows from two groups that lie 2^i half-blocks apart."""
    half = stages.shape[-1] // 2
    if stages.shape[-1] % 2 or weight.shape[0] % (2 ** stages.shape[0] * half):
        raise Misfit(f"blocks {list(stages.shape)} make no butterfly of {weight.shape[0]} rows")
    order = torch.arange(weight.shape[0])
    for index, turns in enumerate(stages):
        places = order.reshape(-1, 2, 2**index * half).mT.flatten()
        weight = torch.empty_like(weight).index_copy(0, places, _blockwise(weight[places], turns))
    return weight
