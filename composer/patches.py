"""Weights per spatial patch, by how far predictions are from the base model's (arXiv:2508.11624)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d


def likeness(one: Tensor, other: Tensor, patch: int) -> Tensor:
    """Return the cosine of each patch of two predictions [1, channels, h, w], as [1, 1, rows, columns].

    Patches are squares of `patch` latent pixels; those at the lower and right edges may be smaller.
    """
    sides = (min(patch, one.shape[-2]), min(patch, one.shape[-1]))

    def dot(a: Tensor, b: Tensor) -> Tensor:
        per_pixel = (a.float() * b.float()).sum(1, keepdim=True)
        return avg_pool2d(per_pixel, sides, ceil_mode=True, count_include_pad=False)

    return dot(one, other) / (dot(one, one) * dot(other, other)).sqrt().clamp(min=1e-12)


def softmin(alike: Sequence[Tensor], temperature: float, top: int) -> Tensor:
    """Return weights [n, 1, rows, columns] that add up to 1 in every patch, greater for what is less alike.

    With `top`, only so many take part: those that are least alike over all patches.
    """
    likenesses = torch.cat(list(alike))
    if 0 < top < len(likenesses):
        others = likenesses.mean(dim=(1, 2, 3)).argsort(stable=True)[top:]
        likenesses = likenesses.index_fill(0, others, torch.inf)
    return torch.softmax(-likenesses / temperature, dim=0)


def blend(weights: Tensor, predictions: Sequence[Tensor], patch: int) -> Tensor:
    """Return the sum of predictions [1, channels, h, w], each patch with its weight."""
    height, width = predictions[0].shape[-2:]
    spread = weights.repeat_interleave(patch, 2).repeat_interleave(patch, 3)[..., :height, :width]
    return (spread * torch.cat(list(predictions)).float()).sum(0, keepdim=True).to(predictions[0].dtype)
