"""What all trainers share: batches of the world, a loop that survives being stopped, an average of weights."""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from diffusers.models.modeling_utils import ModelMixin
from PIL import Image
from torch import Tensor, nn

from lora_zoo.world.draw import draw
from lora_zoo.world.scene import Scene

log = logging.getLogger(__name__)

FILES = Path(__file__).resolve().parents[1] / "files"
TINY = FILES / "tiny"


@dataclass
class Schedule:
    """How long to train and how fast: warm-up, then a cosine down to zero."""

    steps: int
    lr: float
    warmup: int = 50

    def rate(self, step: int) -> float:
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


class Average:
    """Exponential moving average of a module's weights, with the usual ramp at the start."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self._decay, (1 + step) / (10 + step))
        for mine, theirs in zip(self.module.parameters(), module.parameters(), strict=True):
            mine.lerp_(theirs, 1 - decay)
        for mine, theirs in zip(self.module.buffers(), module.buffers(), strict=True):
            mine.copy_(theirs)


def pixels(images: list[Image.Image]) -> Tensor:
    """Stack pictures to [n, 3, h, w] float32 in -1..1."""
    stacked = np.stack([np.asarray(one, np.uint8) for one in images])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def drawn(scenes: list[Scene], rng: Random) -> Tensor:
    """Draw each scene with a seed of its own; [n, 3, 64, 64] in -1..1."""
    return pixels([draw(scene, rng.getrandbits(31)) for scene in scenes])


def write_model(model: ModelMixin, folder: Path) -> None:
    """Write a model's folder, without where the model was read from, which diffusers would leave in it."""
    model.save_pretrained(folder)
    config = folder / "config.json"
    stated = {key: value for key, value in json.loads(config.read_text()).items() if key != "_name_or_path"}
    config.write_text(json.dumps(stated, indent=2, sort_keys=True) + "\n")


def save_atomic(state: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


@dataclass
class Run:
    """A resumable training run: `loss_of(step, rng)` is called for each step that is not done yet.

    The state is written every `save_every` seconds; a second start goes on where the first stopped. Each step draws
    from a random stream of its own, so a stopped and resumed run sees the same data as an undisturbed one.
    """

    name: str
    folder: Path
    model: nn.Module
    schedule: Schedule
    optimiser: Callable[[nn.Module], torch.optim.Optimizer]
    decay: float = 0.999
    save_every: float = 120.0
    clip: float = 1.0

    def train(self, loss_of: Callable[[int, Random], Tensor], report: Callable[[int], str] | None = None) -> nn.Module:
        """Train to the end of the schedule and return the averaged model."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        optimiser = self.optimiser(self.model)
        average = Average(self.model, self.decay)
        first = self._resume(optimiser, average)
        saved, shown, since, losses = time.monotonic(), time.monotonic(), first, [0.0]
        for step in range(first, self.schedule.steps):
            for group in optimiser.param_groups:
                group["lr"] = self.schedule.rate(step)
            loss = loss_of(step, Random(f"{self.name} {step}"))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(trained, self.clip)
            optimiser.step()
            average.update(self.model, step)
            losses.append(loss.item())
            now = time.monotonic()
            if now - saved > self.save_every:
                saved = now
                self._save(step + 1, optimiser, average)
            if now - shown > 20:
                rate = (now - shown) / (step + 1 - since)
                mean = sum(losses[-200:]) / len(losses[-200:])
                extra = report(step) if report else ""
                log.info(f"{self.name} {step + 1}/{self.schedule.steps} loss {mean:.4f} {rate:.2f} s/step {extra}")
                shown, since = now, step + 1
        self._save(self.schedule.steps, optimiser, average)
        return average.module

    def _path(self) -> Path:
        return self.folder / f"{self.name}.pt"

    def _save(self, step: int, optimiser: torch.optim.Optimizer, average: Average) -> None:
        state = {
            "step": step,
            "model": self.model.state_dict(),
            "average": average.module.state_dict(),
            "optimiser": optimiser.state_dict(),
        }
        save_atomic(state, self._path())

    def _resume(self, optimiser: torch.optim.Optimizer, average: Average) -> int:
        if not self._path().exists():
            return 0
        state = torch.load(self._path(), weights_only=True)
        self.model.load_state_dict(state["model"])
        average.module.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        return state["step"]


def batches(count: int, size: int) -> Iterator[range]:
    """Cut range(count) into runs of at most `size`."""
    for start in range(0, count, size):
        yield range(start, min(count, start + size))
