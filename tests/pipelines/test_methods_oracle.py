"""Merge, Switch and Composite over 20 steps against a plain loop of diffusers' UNet with PEFT's `set_adapters`."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from eval import peft_loop
from pipelines.engine import Engine
from pipelines.model import LoadedModel
from tests.adapters import Shelf, five
from tests.requests import WEIGHTS, ask, final_latents, uses

STEPS = 20


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["merge", "switch", "composite"])
@pytest.mark.parametrize("name", ["small", "sd15"])
def test_twenty_steps(name: str, method: str, request: pytest.FixtureRequest) -> None:
    model: LoadedModel = request.getfixturevalue(name)
    folder: Path = request.getfixturevalue(f"{name}_folder")
    count = 3 if name == "small" else 2
    adapters = five(model.layout)[:count]
    wanted = ask(
        str(folder),
        method=method,
        adapters=uses(count),
        num_inference_steps=STEPS,
        text_encoder_adapters="none",
        negative_prompt="on",
    )
    found = final_latents(Engine(Shelf(adapters), load=lambda spec: model), [wanted])[0]

    twin: Any = copy.deepcopy(model.unet)
    peft_loop.load(twin, adapters)
    scheduler: Any = DDIMScheduler.from_pretrained(str(folder), subfolder="scheduler")
    scheduler.set_timesteps(STEPS)
    side = model.spec.width // model.spec.latent_factor
    noise = model.initial_noise(side, side, torch.Generator("cpu").manual_seed(wanted.seed))
    with torch.no_grad():
        embeds = torch.cat([model.encode(text, ()).embeds for text in (wanted.negative_prompt, wanted.prompt)])
    weights = {adapter.name: weight for adapter, weight in zip(adapters, WEIGHTS, strict=False)}
    schedules = {
        "merge": peft_loop.merge(weights),
        "switch": peft_loop.switch(weights, 5),
        "composite": peft_loop.composite(weights),
    }
    start = peft_loop.Sampling(noise * scheduler.init_noise_sigma, embeds, wanted.guidance_scale or 1.0)
    theirs = peft_loop.sample(twin, scheduler, start, schedules[method])
    assert float((found - theirs).abs().max()) <= 1e-4
    assert float(theirs.std()) > 0.01
