"""LPIPS (arXiv:1801.03924) by torchmetrics, to the drawn truth; taken only when it is named.

Its weights come with torchmetrics, those of the network under it with torchvision: both must be on the machine. Nothing
is fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from eval.errors import BadMetric
from eval.metrics.batch import Batch
from eval.metrics.registry import Found, Measure, metric
from eval.viewers import loading

_NETWORK = "alexnet-owt-7be5be79.pth"
_LEAST = 64  # pixels of a side


def _ready() -> None:
    """Find out whether both packages and the network's weights are there."""
    for package in ("torchmetrics", "torchvision"):
        if find_spec(package) is None:
            raise BadMetric(f"metric 'lpips' needs {package}; install requirements-judge.txt")
    path = Path(torch.hub.get_dir()) / "checkpoints" / _NETWORK
    if not path.is_file():
        raise BadMetric(f"metric 'lpips' needs AlexNet's weights, which are not at {path}; nothing is fetched")


@metric(
    "lpips",
    Measure("lpips", "LPIPS to truth", "distance", "lower", "to the nearest of eight drawings"),
    needs=("truth",),
    by="AlexNet, by torchmetrics",
    usual=False,
    ready=_ready,
)
def lpips(batch: Batch) -> list[Found]:
    """Compare by torchmetrics."""
    distance = _distance()
    out: list[Found] = []
    for shot in batch.shots:
        drawn = _stacked(batch.tools.drawings(shot.case))
        own = _stacked([shot.image]).expand(len(drawn), -1, -1, -1)
        apart = [float(distance(own[i : i + 1], drawn[i : i + 1])) for i in range(len(drawn))]
        out.append(Found({"lpips": min(apart)}))
    return out


def _distance() -> Callable[[Tensor, Tensor], Tensor]:
    _ready()
    with loading("LPIPS"):
        return import_module("torchmetrics.image.lpip").LearnedPerceptualImagePatchSimilarity("alex").eval()


def _stacked(images: tuple[Image, ...] | list[Image]) -> Tensor:
    fitted = [one.convert("RGB").resize((_LEAST, _LEAST)) if min(one.size) < _LEAST else one for one in images]
    return torch.as_tensor(np.stack([np.asarray(one, np.float32) for one in fitted])).permute(0, 3, 1, 2) / 127.5 - 1
