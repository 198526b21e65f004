"""The concept detectors, trained on ground-truth pictures with every composition in them, lightly disturbed."""

from __future__ import annotations

from pathlib import Path
from random import Random

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from lora_zoo.detectors import WEIGHTS, Detectors
from lora_zoo.train.common import Run, Schedule, pixels
from lora_zoo.train.muon import Muon
from lora_zoo.world.draw import draw
from lora_zoo.world.labels import labels
from lora_zoo.world.scene import Scene, sample_any


class Labelled:
    """Fresh scenes, drawn once, with their answers; unknown answers weigh nothing."""

    def __init__(self, count: int, seed: str) -> None:
        rng = Random(seed)
        self.scenes = [sample_any(rng, rng.choice((0.0, 0.4, 0.8))) for _ in range(count)]
        drawn = [pixels([draw(s, rng.getrandbits(31))]).add(1).mul(127.5).to(torch.uint8) for s in self.scenes]
        self.images = torch.cat(drawn)
        answers = [_answers(s) for s in self.scenes]
        self.truth = torch.stack([a for a, _ in answers])
        self.known = torch.stack([k for _, k in answers])

    def pictures(self, rows: Tensor) -> Tensor:
        return self.images[rows].float().div(127.5).sub(1)


def _answers(scene: Scene) -> tuple[Tensor, Tensor]:
    said = list(labels(scene).values())
    return torch.tensor([bool(a) for a in said]), torch.tensor([a is not None for a in said])


def _disturbed(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Blur, noise and shift tones a little, as a generated picture differs from a drawn one."""
    n = len(pictures)
    share = torch.rand(n, 1, 1, 1, generator=generator) * 0.8
    blurred = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    pictures = torch.lerp(pictures, blurred, share)
    noise = torch.randn(pictures.shape, generator=generator) * torch.rand(n, 1, 1, 1, generator=generator) * 0.12
    gain = 1 + 0.1 * torch.randn(n, 3, 1, 1, generator=generator)
    return (pictures * gain + 0.06 * torch.randn(n, 3, 1, 1, generator=generator) + noise).clamp(-1, 1)


@torch.no_grad()
def balanced_accuracy(model: Detectors, count: int = 2000, seed: str = "fresh") -> dict[str, float]:
    """Return balanced accuracy per label over fresh ground-truth pictures; labels never true are left out."""
    data = Labelled(count, f"detectors {seed}")
    said = torch.cat([model(data.pictures(rows)) for rows in torch.arange(count).split(100)]) > 0
    yes, no = data.truth & data.known, ~data.truth & data.known
    hit = (said & yes).sum(0) / yes.sum(0)
    miss = (~said & no).sum(0) / no.sum(0)
    return {n: float(a) for n, a, y in zip(model.names, (hit + miss) / 2, yes.sum(0), strict=True) if y > 0}


def train(runs: Path, steps: int = 900, batch: int = 64, scenes: int = 32_000) -> None:
    """Train, write the weights and report the worst labels."""
    torch.manual_seed(0)
    model, data = Detectors(), Labelled(scenes, "detectors training")
    model = model.to(memory_format=torch.channels_last)

    def loss_of(step: int, rng: Random) -> Tensor:
        generator = torch.Generator().manual_seed(rng.getrandbits(31))
        rows = torch.randint(len(data.images), (batch,), generator=generator)
        logits = model(_disturbed(data.pictures(rows), generator))
        truth, known = data.truth[rows].float(), data.known[rows].float()
        each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none", pos_weight=torch.tensor(3.0))
        return (each * known).sum() / known.sum()

    run = Run("detectors", runs, model, Schedule(steps, 0.02), lambda m: Muon(m, 0.02), decay=0.99)
    best = run.train(loss_of)
    assert isinstance(best, Detectors)
    halves = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in best.state_dict().items()}
    WEIGHTS.write_bytes(safetensors.torch.save(halves))
