"""How far a picture is from the drawn truth: the nearest of several drawings, in pixels and in features.

`feature_distance` is made like LPIPS (arXiv:1801.03924), on the layers of the embedded world's detectors: features
scaled to length one at every place, squared differences summed over channels, averaged over places, summed over layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from eval.metrics.batch import Batch
from eval.metrics.registry import DETECTORS, Found, Measure, metric
from lora_zoo.detectors import SIZE, Detectors

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

_EPSILON = 1e-10


@metric(
    "pixels",
    Measure("psnr", "PSNR to truth", "dB", "higher", "peak signal-to-noise ratio to the nearest of eight drawings"),
    needs=("truth",),
    by="pixels",
)
def psnr(batch: Batch) -> list[Found]:
    """Compare pixels."""
    out: list[Found] = []
    for shot in batch.shots:
        own = _pixels([shot.image])
        error = (_pixels(batch.tools.drawings(shot.case)) - own).square().mean((1, 2, 3)).min()
        out.append(Found({"psnr": float(-10 * torch.log10(error.clamp(min=_EPSILON)))}))
    return out


@metric(
    "features",
    Measure(
        "feature_distance", "feature distance", "distance", "lower", "to the nearest of eight drawings, LPIPS-like"
    ),
    needs=("truth",),
    by=DETECTORS,
)
def feature_distance(batch: Batch) -> list[Found]:
    """Compare the detectors' features."""
    detectors = batch.tools.detectors
    out: list[Found] = []
    for shot in batch.shots:
        layers = _layers(detectors, [shot.image, *batch.tools.drawings(shot.case)])
        apart = sum((layer[1:] - layer[:1]).square().sum(1).mean((1, 2)) for layer in layers)
        assert isinstance(apart, torch.Tensor)
        out.append(Found({"feature_distance": float(apart.min())}))
    return out


def _pixels(images: Sequence[Image]) -> Tensor:
    """Return pictures at the drawings' size, [n, 3, 64, 64] in 0..1."""
    fitted = [one.convert("RGB").resize((SIZE, SIZE)) if one.size != (SIZE, SIZE) else one for one in images]
    return torch.as_tensor(np.stack([np.asarray(one, np.float32) for one in fitted])).permute(0, 3, 1, 2) / 255


@torch.no_grad()
def _layers(detectors: Detectors, images: Sequence[Image]) -> list[Tensor]:
    """Return the features of each layer, scaled to length one at every place."""
    values = _pixels(images) * 2 - 1
    out: list[Tensor] = []
    for layer in detectors.body:
        values = layer(values)
        out.append(values / values.square().sum(1, keepdim=True).sqrt().clamp(min=_EPSILON))
    return out
