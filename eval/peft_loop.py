"""The same maths by the customary means: diffusers' UNet with PEFT adapters, switched by `set_adapters`.

Merge, Switch and Composite as anyone would write them around the stock classes. Tests hold our engine to its numbers,
the speed benchmark to its time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from peft import LoraConfig
from torch import Tensor, nn

from lora_zoo.adapter import Adapter, LowRank

#: Per step index, the adapter sets to evaluate in turn, each with its weights.
Schedule = Callable[[int], Sequence[dict[str, float]]]


class PeftUNet(Protocol):
    """The part of diffusers' UNet that is used here."""

    def __call__(self, sample: Tensor, timestep: Tensor, **options: object) -> tuple[Tensor]: ...
    def add_adapter(self, adapter_config: LoraConfig, adapter_name: str) -> None: ...
    def set_adapters(self, adapter_names: list[str], weights: list[float]) -> None: ...
    def get_submodule(self, target: str) -> nn.Module: ...


class StockScheduler(Protocol):
    """The part of diffusers' schedulers that is used here."""

    timesteps: Tensor

    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor: ...
    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, return_dict: bool) -> tuple[Tensor]: ...


@dataclass(frozen=True, eq=False)
class Sampling:
    """What one picture starts from."""

    latents: Tensor  # [1, channels, h, w], scaled for the scheduler
    embeds: Tensor  # [2, tokens, width]: uncond, cond
    guidance_scale: float


def load(unet: PeftUNet, adapters: Sequence[Adapter]) -> None:
    """Give a UNet PEFT layers with the factors of low-rank adapters. The UNet is changed for good."""
    for adapter in adapters:
        deltas = {path: d for path, d in adapter.component("unet").items() if isinstance(d, LowRank)}
        ranks = {path: delta.rank for path, delta in deltas.items()}
        config = LoraConfig(  # alpha / rank is in the factors already, so both are equal here
            r=1, lora_alpha=1, target_modules=list(deltas), rank_pattern=ranks, alpha_pattern=ranks
        )
        unet.add_adapter(config, adapter.name)
        for path, delta in deltas.items():
            layer = unet.get_submodule(path)
            _fill(layer, "lora_A", adapter.name, delta.down)
            _fill(layer, "lora_B", adapter.name, delta.up)


def _fill(layer: nn.Module, side: str, name: str, values: Tensor) -> None:
    weight = cast(nn.Module, cast(nn.ModuleDict, layer.get_submodule(side))[name]).weight
    assert isinstance(weight, nn.Parameter)
    with torch.no_grad():
        weight.copy_(values.reshape(weight.shape))


@torch.no_grad()
def sample(unet: PeftUNet, scheduler: StockScheduler, start: Sampling, schedule: Schedule) -> Tensor:
    """Return the final latents: per step, one guided call per adapter set, predictions averaged."""
    latents, active = start.latents, dict[str, float]()
    for index, timestep in enumerate(scheduler.timesteps):
        rows = scheduler.scale_model_input(torch.cat([latents] * 2), timestep)
        answers: list[Tensor] = []
        for weights in schedule(index):
            if weights != active:
                unet.set_adapters(list(weights), list(weights.values()))
                active = weights
            answers.append(unet(rows, timestep, encoder_hidden_states=start.embeds, return_dict=False)[0])
        uncond, cond = torch.stack(answers).mean(0).chunk(2)
        guided = uncond + start.guidance_scale * (cond - uncond)
        latents = scheduler.step(guided, timestep, latents, return_dict=False)[0]
    return latents


def merge(weights: dict[str, float]) -> Schedule:
    return lambda _index: [weights]


def switch(weights: dict[str, float], interval: int) -> Schedule:
    turns = [{name: weight} for name, weight in weights.items()]
    return lambda index: [turns[index // interval % len(turns)]]


def composite(weights: dict[str, float]) -> Schedule:
    everyone = [{name: weight} for name, weight in weights.items()]
    return lambda _index: everyone
