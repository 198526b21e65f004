"""Our pictures against those of diffusers' own pipeline: same folder, same seed, same file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from PIL import Image

from composer.request import AdapterUse, RenderRequest
from pipelines import schedulers, specs
from pipelines.engine import Engine
from pipelines.model import LoadedModel
from pipelines.sources import ZooSource
from tests import models
from tests.adapters import BOTH, CONVOLUTIONS, Kind, random_adapter, save_kohya
from tests.requests import ask


def stock(folder: Path, scheduler: str = "ddim") -> Any:
    """Return diffusers' pipeline with the scheduler that our name stands for."""
    pipe: Any = StableDiffusionPipeline.from_pretrained(str(folder), safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    spec = schedulers.get(scheduler)
    pipe.scheduler = getattr(diffusers, spec.class_name).from_config(pipe.scheduler.config, **spec.settings)
    return pipe


def picture(pipe: Any, request: RenderRequest, width: int, height: int | None = None) -> Image.Image:
    return pipe(
        request.prompt,
        negative_prompt=request.negative_prompt or None,
        width=width,
        height=height or width,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        guidance_rescale=request.guidance_rescale,
        generator=torch.Generator("cpu").manual_seed(request.seed),
    ).images[0]


def same(ours: Image.Image, theirs: Image.Image) -> bool:
    """Whether two pictures are equal up to rounding, and not flat."""
    a, b = np.asarray(ours, dtype=int), np.asarray(theirs, dtype=int)
    return a.shape == b.shape and int(abs(a - b).max()) <= 1 and float(b.std()) > 1.0


@pytest.mark.sampled(3)
@pytest.mark.parametrize("scheduler", schedulers.names())
def test_base_pictures(scheduler: str, engine: Engine, small_folder: Path) -> None:
    request = ask(str(small_folder), scheduler=scheduler, num_inference_steps=6, negative_prompt="a mat")
    assert same(engine.render(request).image, picture(stock(small_folder, scheduler), request, 16))


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "fields",
    [{}, {"guidance_scale": 1.0}, {"guidance_rescale": 0.7}, {"prompt": "a cat " * 60, "prompt_syntax": "plain"}],
    ids=["plain", "no-guidance", "rescale", "long-prompt"],
)
def test_sd15_structure(fields: dict[str, Any], sd15_engine: Engine, sd15_folder: Path) -> None:
    request = ask(str(sd15_folder), scheduler="euler_a", **fields)
    rendering = sd15_engine.render(request)
    assert same(rendering.image, picture(stock(sd15_folder, "euler_a"), request, 64))
    assert any("longer than" in notice for notice in rendering.record.notices) == ("prompt" in fields)


def test_sizes_that_the_unet_cannot_halve_evenly(sd15_engine: Engine, sd15_folder: Path) -> None:
    request = ask(str(sd15_folder), scheduler="euler_a", width=72, height=104)
    assert same(sd15_engine.render(request).image, picture(stock(sd15_folder, "euler_a"), request, 72, 104))


def test_sd2_in_a_folder(tmp_path: Path) -> None:
    folder = models.build(models.SD2, tmp_path / "sd2", seed=3)
    model = LoadedModel.load(specs.find(str(folder)), torch.device("cpu"))
    every = random_adapter("a", model.layout, Kind(2, 1.0, CONVOLUTIONS, BOTH), 5)
    file = save_kohya(every, tmp_path / "a.safetensors", 1.0)
    assert model.layout["unet"]["down_blocks.0.attentions.0.proj_in"] == (32, 32)
    pipe = stock(folder)
    pipe.load_lora_weights(str(file))
    request = ask(str(folder), adapters=(AdapterUse(name=str(file), weight=1.0),))
    ours = Engine(ZooSource(), load=lambda spec: model).render(request)
    assert ours.record.prediction_type == "v_prediction"
    assert same(ours.image, picture(pipe, request, 64))


@pytest.mark.sampled(1)
@pytest.mark.parametrize("count", [1, 3])
def test_the_same_files(count: int, sd15: LoadedModel, sd15_folder: Path, tmp_path: Path) -> None:
    kinds = [Kind(4, 1.0, components=BOTH), Kind(2, 1.0, CONVOLUTIONS, BOTH), Kind(6, 1.0, CONVOLUTIONS)]
    weights = [0.9, 0.5, -0.7][:count]
    files = [
        save_kohya(random_adapter(f"lora{n}", sd15.layout, kind, 50 + n), tmp_path / f"lora{n}.safetensors", 3.0)
        for n, kind in enumerate(kinds[:count])
    ]
    pipe = stock(sd15_folder)
    for file in files:
        pipe.load_lora_weights(str(file), adapter_name=file.stem)
    pipe.set_adapters([file.stem for file in files], weights)
    engine = Engine(ZooSource(), load=lambda spec: sd15)
    request = ask(
        str(sd15_folder),
        adapters=tuple(AdapterUse(name=str(file), weight=weight) for file, weight in zip(files, weights, strict=True)),
    )
    ours = engine.render(request).image
    assert same(ours, picture(pipe, request, 64))
    base = np.asarray(engine.render(ask(str(sd15_folder))).image, dtype=int)
    assert abs(np.asarray(ours, dtype=int) - base).max() > 5
