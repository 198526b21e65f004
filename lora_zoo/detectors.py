"""Concept detectors: one small network that says what a picture of the world shows, and on which side.

Trained on ground-truth pictures by `python -m lora_zoo.train detectors`; used by the evaluation as a judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn

from lora_zoo import header
from lora_zoo.foreign import files
from lora_zoo.world.labels import label_names
from lora_zoo.world.scene import SLOTS

WEIGHTS = Path(__file__).parent / "files" / "detectors.safetensors"
SIZE = 64
_CHUNK = 64  # pictures judged at once


def _conv(inner: int, outer: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer), nn.ReLU())


class _Block(nn.Module):
    """Two convolutions, the second added to the first: a step down in size and up in channels."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.down, self.more = _conv(inner, outer, 2), _conv(outer, outer, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return x + self.more(x)


class Detectors(nn.Module):
    """Pictures [n, 3, 64, 64] in -1..1 -> logits [n, labels], labels as in `label_names()`."""

    def __init__(self) -> None:
        super().__init__()
        self.names = label_names()
        self.body = nn.Sequential(_conv(3, 32, 2), _Block(32, 64), _Block(64, 128), _Block(128, 160))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(160 * 16, 320), nn.ReLU(), nn.Linear(320, len(self.names)))

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> Detectors:
        """Return the shipped detectors, ready to judge."""
        made = cls()
        made.load_state_dict(safetensors.torch.load(files.read(path, header.MAX_FILE)))
        return made.eval()

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.body(pictures))

    @torch.no_grad()
    def scores(self, images: Sequence[Image.Image]) -> list[dict[str, float]]:
        """Return, for each picture, the probability of every label."""
        stacked = np.stack([np.asarray(_fitted(one), np.float32) for one in images])
        pictures = torch.as_tensor(stacked).permute(0, 3, 1, 2) / 127.5 - 1
        chances = torch.cat([self(pictures[i : i + _CHUNK]) for i in range(0, len(pictures), _CHUNK)]).sigmoid()
        return [dict(zip(self.names, map(float, row), strict=True)) for row in chances]


def _fitted(image: Image.Image) -> Image.Image:
    rgb = image.convert("RGB")
    return rgb if rgb.size == (SIZE, SIZE) else rgb.resize((SIZE, SIZE), Image.Resampling.BOX)


def anywhere(scores: dict[str, float], value: str) -> float:
    """Return the highest probability of a value (a concept, say) over all places in the picture."""
    found = [p for label, p in scores.items() if label.rsplit(".", 1)[1] == value and "garment_colour" not in label]
    if not found:
        raise KeyError(value)
    return max(found)


def shown(scores: dict[str, float], threshold: float = 0.5) -> set[str]:
    """Return the labels that a picture shows."""
    return {label for label, p in scores.items() if p >= threshold}


__all__ = ["SLOTS", "Detectors", "anywhere", "shown"]
