"""PEFT's OFT and BOFT: the inputs of a layer are rotated; a convolution's are its patches, kernel and all.

In double precision: what a small rotation changes is a difference of nearly equal weights.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lora_zoo.adapter import DenseDelta
from lora_zoo.kinds.common import Layer, Misfit


def oft_peft(layer: Layer) -> DenseDelta:
    """Rotate the columns of a weight in blocks, each given by the numbers above the diagonal of a skew matrix."""
    numbers, columns = layer.parts["blocks"], math.prod(layer.shape[1:])
    size = (1 + math.isqrt(1 + 8 * numbers.shape[-1])) // 2 if numbers.dim() == 2 else 0
    count = 0 if not size or columns % size else columns // size
    if (
        not count
        or size * (size - 1) // 2 != numbers.shape[-1]
        or numbers.shape[0] != (1 if layer.oft.shared else count)
    ):
        raise Misfit(f"oft_R {list(numbers.shape)} does not fit {columns} inputs")
    skew = torch.zeros(numbers.shape[0], size, size, dtype=torch.float64)
    above = torch.triu_indices(size, size, 1)
    skew[:, above[0], above[1]] = numbers.double()
    skew = skew - skew.mT
    if layer.oft.largest is not None:
        norms = skew.square().sum((1, 2), keepdim=True).sqrt()
        skew = skew * (layer.oft.largest / len(skew) ** 0.5 / norms).clamp(max=1.0)
    turns = _cayley(skew) if layer.oft.neumann_terms is None else _series(skew, layer.oft.neumann_terms)
    base = layer.weight().double().reshape(layer.shape[0], count, size)
    turned = torch.einsum("ock,ckn->ocn", base, turns.mT.expand(count, size, size))
    return DenseDelta((turned - base).float().reshape(layer.shape))


def boft_peft(layer: Layer) -> DenseDelta:
    """Rotate the columns of a weight by a butterfly of blocks, and stretch its rows."""
    blocks, stretch, columns = layer.parts["blocks"], layer.parts["rescale"], math.prod(layer.shape[1:])
    fits = blocks.dim() == 4 and blocks.shape[2] == blocks.shape[3] and blocks.shape[1] * blocks.shape[2] == columns
    if not fits or stretch.numel() != layer.shape[0]:
        raise Misfit(f"boft_R {list(blocks.shape)}, boft_s {list(stretch.shape)} do not fit {list(layer.shape)}")
    base, blocks = layer.weight().double().flatten(1), blocks.double()
    turned = base.T
    for index, turns in enumerate(_cayley((blocks - blocks.mT) / 2)):
        places = _permutation(columns, blocks.shape[1] >> index, blocks.shape[2], len(blocks))
        mixed = (turns @ turned[places.argsort()].reshape(blocks.shape[1], blocks.shape[2], -1)).reshape(columns, -1)
        turned = mixed[places]
    delta = turned.T * stretch.reshape(-1, 1) - base
    return DenseDelta(delta.float().reshape(layer.shape))


def _cayley(skew: Tensor) -> Tensor:
    eye = torch.eye(skew.shape[-1], dtype=skew.dtype)
    return (eye - skew) @ (eye + skew).inverse()


def _series(skew: Tensor, terms: int) -> Tensor:
    """Return PEFT's polynomial in place of (1 + Q)(1 - Q)^-1: 1 + 2Q + 2Q² + ... and a last power once."""
    highest = max(3, terms - 1) if terms > 2 else terms - 1
    total, power = torch.eye(skew.shape[-1], dtype=skew.dtype).expand_as(skew), skew
    for exponent in range(1, highest + 1):
        total = total + power * (1.0 if exponent == highest > 1 else 2.0)
        power = power @ skew
    return total


def _permutation(size: int, blocks: int, width: int, stages: int) -> Tensor:
    """Return where each column comes from in a stage: in every stretch of size / blocks, even half-blocks, then odd."""
    if stages == 1:
        return torch.arange(size)
    half = width // 2
    if not blocks or not half or size % blocks or (size // blocks) % (2 * half):
        raise Misfit(f"{stages} stages of blocks of {width} make no butterfly of {size} inputs")
    return torch.arange(size).reshape(blocks, -1, 2, half).transpose(1, 2).flatten()
