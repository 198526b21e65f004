"""Predictions in bands of frequency: the Haar wavelet transform, orthonormal, and blends that weigh each band apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad


def analyse(predictions: Sequence[Tensor], levels: int) -> list[Tensor]:
    """Return the bands of n predictions [1, channels, h, w], as [n, channels, rows, columns] each.

    The details of each level come first, finest first, three each, then the rest. Odd sizes are padded.
    """
    rest = torch.cat(list(predictions)).float()
    bands: list[Tensor] = []
    for _ in range(levels):
        height, width = rest.shape[-2:]
        even = pad(rest, (0, width % 2, 0, height % 2), mode="replicate")
        a, b, c, d = even[..., ::2, ::2], even[..., ::2, 1::2], even[..., 1::2, ::2], even[..., 1::2, 1::2]
        bands += [(a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2]
        rest = (a + b + c + d) / 2
    return [*bands, rest]


def synthesise(bands: Sequence[Tensor], height: int, width: int) -> Tensor:
    """Return the images [n, channels, height, width] that have these bands."""
    image = bands[-1]
    for level in reversed(range(len(bands) // 3)):
        across, down, both = bands[3 * level : 3 * level + 3]
        above = torch.stack([image + across + down + both, image - across + down - both], -1).flatten(-2)
        below = torch.stack([image + across - down - both, image - across - down + both], -1).flatten(-2)
        rows, columns = -(-height // 2**level), -(-width // 2**level)
        image = torch.stack([above, below], -2).flatten(-3, -2)[..., :rows, :columns] / 2
    return image


def band_weights(now: Sequence[Tensor], before: Sequence[Tensor] | None, temperature: float, top: int) -> list[Tensor]:
    """Return the weights [n, 1, 1, 1] of each band, greater for what moved more since `before`; None: all equal.

    With `top`, only so many take part in a band.
    """
    if before is None:
        return [torch.full_like(band[:, :1, :1, :1], 1.0 / len(band)) for band in now]
    return [_softmax(_moved(band, earlier), temperature, top) for band, earlier in zip(now, before, strict=True)]


def blend(bands: Sequence[Tensor], weights: Sequence[Tensor], like: Tensor) -> Tensor:
    """Return the prediction, in the form of `like`, whose bands are the weighted sums of these."""
    mixed = [(weight * band).sum(0, keepdim=True) for weight, band in zip(weights, bands, strict=True)]
    return synthesise(mixed, *like.shape[-2:]).to(like.dtype)


def _moved(now: Tensor, before: Tensor) -> Tensor:
    """Return how far each prediction moved in a band, [n], over the mean of all; zeros if none did."""
    moved = (now - before).flatten(1).square().sum(1).sqrt()
    return moved / moved.mean().clamp(min=torch.finfo(moved.dtype).tiny)


def _softmax(moved: Tensor, temperature: float, top: int) -> Tensor:
    if 0 < top < len(moved):
        moved = moved.index_fill(0, moved.argsort(descending=True, stable=True)[top:], -torch.inf)
    return torch.softmax(moved / temperature, dim=0).reshape(-1, 1, 1, 1)
