"""The training of ZipLoRA's coefficients; the loss is in ziplora.py.

The base model has no part in it but to answer: the weights that depend on coefficients are handed to each call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from composer.merges import ziplora
from composer.merges.common import Weighted, factored
from lora_zoo.adapter import Adapter, LowRank
from pipelines.bank import Gate
from pipelines.changes import Layer, merged_weight
from pipelines.fitting.base import Fitted, Member
from pipelines.fitting.studio import Sketch, Studio
from pipelines.model import UNET, LoadedModel
from pipelines.progress import Watch

if TYPE_CHECKING:
    from pipelines.fitting.ziplora import ZipLoraTrained

_TIMESTEPS = 1000
_CHECKED = 8  # timesteps at which the error is measured

Weights = Mapping[str, Tensor]  # name of a parameter of the UNet -> what stands in for it


@dataclass(frozen=True, eq=False)
class _Lessons:
    """What is learned from: one row per member in everything."""

    pictures: Tensor  # [members, pictures, channels, h, w], latents
    alone: Tensor  # [members, tokens, width], each one's prompt as it reads it itself
    together: Tensor  # [members, tokens, width], the prompts as all together read them
    gates: tuple[Gate, ...]
    alphas: Tensor  # [timesteps], what is left of a picture's variance


@dataclass(frozen=True, eq=False)
class _Lesson:
    """One step's part of it."""

    noisy: Tensor  # [members, channels, h, w]
    timesteps: Tensor  # [members]
    target: Tensor  # [members, channels, h, w]


@dataclass(frozen=True, eq=False)
class _Column:
    """One layer's members and their coefficients."""

    base: Tensor  # the layer's weight
    deltas: Mapping[int, LowRank]  # by member
    m: Tensor  # [members here, in]

    def weight(self) -> Tensor:
        total = self.base.flatten(1).float()
        for m, delta in zip(self.m, self.deltas.values(), strict=True):
            total = total + delta.up @ (delta.down * m)
        return total.reshape(self.base.shape).to(self.base.dtype)

    def overlap(self) -> Tensor:
        unit = F.normalize(self.m, dim=1)
        pairs = [(unit[a] @ unit[b]).abs() for a, b in combinations(range(len(unit)), 2)]
        return torch.stack(pairs).sum()

    def of_all(self, members: int) -> Tensor:
        """Return the coefficients [members, in], 1 for those who lack the layer."""
        whole = torch.ones(members, self.m.shape[1])
        whole[list(self.deltas)] = self.m.detach().cpu()
        return whole


def train(studio: Studio, members: Sequence[Member], settings: ZipLoraTrained, watch: Watch) -> Fitted:
    """Train from the sum; tell the error of what comes out, of the sum, and of the closed form that needs no model."""
    lessons = _prepare(studio, members, settings, watch)
    model, weighted = studio.model, [Weighted(one.adapter, 1.0) for one in members]
    columns = _columns(model, members)
    shared = {path: column for path, column in columns.items() if len(column.deltas) > 1}
    if shared:
        with model.lock, torch.enable_grad():
            _descend(model, columns, lessons, settings, watch)
    found = {path: column.of_all(len(members)) for path, column in shared.items()}
    made = ziplora.columns(weighted, {UNET: found})
    rivals = {
        "error": made,
        "error_of_the_sum": ziplora.columns(weighted, {}),
        "error_of_the_closed_form": ziplora.ziplora(weighted),
    }
    measured = {name: _error(model, lessons, one, settings.seed) for name, one in rivals.items()}
    moved = [float((one - 1).abs().mean()) for one in found.values()] or [0.0]
    layers = {c: {path: factored(delta) for path, delta in paths.items()} for c, paths in made.layers.items()}
    return Fitted(layers, {**measured, "moved": sum(moved) / len(moved)})


def _descend(
    model: LoadedModel, columns: Mapping[str, _Column], lessons: _Lessons, settings: ZipLoraTrained, watch: Watch
) -> None:
    """Train the coefficients of layers that members share."""
    generator = torch.Generator("cpu").manual_seed(settings.seed)
    shared = {path: column for path, column in columns.items() if len(column.deltas) > 1}
    fixed = _named({path: column.weight() for path, column in columns.items() if path not in shared})
    optimizer = torch.optim.Adam([column.m for column in shared.values()], settings.learning_rate)
    for step in range(settings.steps):
        weights = {**fixed, **_named({path: column.weight() for path, column in shared.items()})}
        lesson = _lesson(model, lessons, generator, None)
        loss = F.mse_loss(_ask(model, weights, lesson, lessons.together), lesson.target) * len(lessons.gates)
        loss = loss + settings.overlap * torch.stack([column.overlap() for column in shared.values()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watch("training", step + 1, settings.steps)


@torch.no_grad()
def _prepare(studio: Studio, members: Sequence[Member], settings: ZipLoraTrained, watch: Watch) -> _Lessons:
    """Let each member draw its pictures, and read the prompts."""
    drawn: list[Tensor] = []
    total = len(members) * settings.pictures
    for member in members:
        for number in range(settings.pictures):
            sketch = Sketch(member.prompt, settings.sampling_steps, settings.seed + number, guidance=None)
            drawn.append(studio.draw(member.adapter, sketch))
            watch("pictures", len(drawn), total)
    model = studio.model
    gates = tuple(studio.gate([member.adapter]) for member in members)
    everyone = studio.gate([member.adapter for member in members])
    alone = [model.encode(member.prompt, gate).embeds for member, gate in zip(members, gates, strict=True)]
    together = [model.encode(member.prompt, everyone).embeds for member in members]
    solver = model.new_solver("ddim", 1, torch.Generator("cpu"))
    return _Lessons(
        torch.cat(drawn).unflatten(0, (len(members), settings.pictures)),
        torch.cat(alone),
        torch.cat(together),
        gates,
        solver.inner.alphas_cumprod.to(model.device),
    )


def _columns(model: LoadedModel, members: Sequence[Member]) -> dict[str, _Column]:
    found: dict[str, dict[int, LowRank]] = {}
    for place, member in enumerate(members):
        for path, delta in member.adapter.component(UNET).items():
            one = factored(delta)
            flat = LowRank(one.down.flatten(1).float().to(model.device), one.up.float().to(model.device))
            found.setdefault(path, {})[place] = flat
    columns: dict[str, _Column] = {}
    for path, deltas in found.items():
        base = _layer(model, path).weight.detach()
        inputs = base.flatten(1).shape[1]
        m = torch.ones(len(deltas), inputs, device=model.device, requires_grad=len(deltas) > 1)
        columns[path] = _Column(base, deltas, m)
    return columns


@torch.no_grad()
def _lesson(model: LoadedModel, lessons: _Lessons, generator: torch.Generator, at: int | None) -> _Lesson:
    """Return a picture of each member under the same noise, at the same timestep, and what each alone says to its own.

    Without `at` the timestep is drawn too.
    """
    members, pictures = lessons.pictures.shape[:2]
    drawn = int(torch.randint(_TIMESTEPS, (1,), generator=generator))
    timestep = drawn if at is None else at
    chosen = torch.randint(pictures, (members,), generator=generator)
    clean = lessons.pictures[torch.arange(members), chosen.to(lessons.pictures.device)]
    noise = torch.randn(clean.shape[1:], generator=generator).to(clean)
    alpha = lessons.alphas[timestep].to(clean)
    noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    timesteps = torch.full((members,), timestep, device=clean.device)
    with model.bank.gate(lessons.gates):
        return _Lesson(noisy, timesteps, model.predict_noise(noisy, timesteps, lessons.alone))


def _ask(model: LoadedModel, weights: Weights, lesson: _Lesson, embeds: Tensor) -> Tensor:
    """Return the model's predictions with other weights; its own are not touched."""
    options: dict[str, Any] = {"encoder_hidden_states": embeds, "return_dict": False}
    return functional_call(model.unet, dict(weights), (lesson.noisy, lesson.timesteps), options)[0]


@torch.no_grad()
def _error(model: LoadedModel, lessons: _Lessons, merged: Adapter, seed: int) -> float:
    """Return the mean squared distance to what each member alone says, over timesteps from low to high."""
    generator = torch.Generator("cpu").manual_seed(seed + 1)
    weights = _named(
        {path: merged_weight(_layer(model, path), ((delta, 1.0),)) for path, delta in merged.component(UNET).items()}
    )
    errors: list[Tensor] = []
    for number in range(_CHECKED):
        lesson = _lesson(model, lessons, generator, (2 * number + 1) * _TIMESTEPS // (2 * _CHECKED))
        errors.append(F.mse_loss(_ask(model, weights, lesson, lessons.together), lesson.target))
    return float(torch.stack(errors).mean())


def _layer(model: LoadedModel, path: str) -> Layer:
    return cast(Layer, model.unet.get_submodule(path))


def _named(by_path: Weights) -> dict[str, Tensor]:
    return {f"{path}.weight": weight for path, weight in by_path.items()}
