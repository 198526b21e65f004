"""SDXL against diffusers' own pipeline: same folder, same seed, same LoRA files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from torch import Tensor

from composer.errors import BadRequest
from composer.request import AdapterUse, RenderRequest
from lora_zoo import writer
from pipelines import layout, prompts, specs
from pipelines.engine import Engine
from pipelines.model import LoadedModel
from pipelines.sources import ZooSource
from tests.adapters import CONVOLUTIONS, Kind, random_adapter, save_plain
from tests.requests import ask, close, final_latents

SIDE = 64
BOTH_TEXTS = ("unet", "text_encoder", "text_encoder_2")


def request_for(folder: Path, **fields: Any) -> RenderRequest:
    return ask(str(folder), **{"width": SIDE, "height": SIDE, "scheduler": "euler", **fields})


def stock(folder: Path) -> Any:
    pipe: Any = StableDiffusionXLPipeline.from_pretrained(str(folder))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def stock_latents(pipe: Any, request: RenderRequest, **sizes: Any) -> Tensor:
    return pipe(
        request.prompt,
        negative_prompt=request.negative_prompt or None,
        width=SIDE,
        height=SIDE,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(request.seed),
        output_type="latent",
        **sizes,
    ).images


@pytest.fixture(scope="module")
def engine(xl: LoadedModel) -> Engine:
    return Engine(ZooSource(), load=lambda spec: xl)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("fields", "sizes"),
    [
        ({}, {}),
        ({"negative_prompt": "a mat"}, {}),
        ({"guidance_scale": 1.0}, {}),
        ({"prompt": "a cat " * 60, "prompt_syntax": "plain"}, {}),
        (
            {"original_size": (512, 384), "crop_corner": (7, 3), "target_size": (96, 80)},
            {"original_size": (384, 512), "crops_coords_top_left": (3, 7), "target_size": (80, 96)},
        ),
    ],
    ids=["plain", "negative", "no-guidance", "long-prompt", "sizes"],
)
def test_base_latents(fields: dict[str, Any], sizes: dict[str, Any], engine: Engine, xl_folder: Path) -> None:
    request = request_for(xl_folder, **fields)
    assert close(final_latents(engine, [request])[0], stock_latents(stock(xl_folder), request, **sizes))


def test_a_long_prompt_is_pooled_by_its_first_chunk(xl: LoadedModel) -> None:
    whole, first = prompts.read(xl, "a cat BREAK (on:1.2) a mat", ()), xl.encode("a cat", ())
    assert whole.context.pooled is not None and first.pooled is not None
    assert torch.equal(whole.context.pooled, first.pooled)
    assert torch.equal(whole.context.embeds[:, : first.embeds.shape[1]], first.embeds)


def test_the_heads_of_its_files_tell_its_layers(xl: LoadedModel, xl_folder: Path) -> None:
    assert layout.read(xl_folder) == xl.layout


def test_sizes_and_an_empty_negative_prompt_matter(engine: Engine, xl_folder: Path) -> None:
    requests = [
        request_for(xl_folder),
        request_for(xl_folder, original_size=(512, 384)),
        request_for(xl_folder, crop_corner=(9, 0)),
        request_for(xl_folder, target_size=(512, 512)),
        request_for(xl_folder, negative_prompt=" "),
    ]
    base, *others = final_latents(engine, requests)
    assert all(not close(other, base) for other in others)


def test_only_sdxl_is_told_sizes(sd15_engine: Engine, sd15_folder: Path) -> None:
    with pytest.raises(BadRequest, match="crop_corner: only SDXL models read it"):
        sd15_engine.resolve(ask(str(sd15_folder), crop_corner=(1, 0)))


def test_a_record_repeats_the_picture(engine: Engine, xl_folder: Path) -> None:
    first = engine.render(request_for(xl_folder, original_size=(512, 384), num_inference_steps=1))
    again = engine.render(first.record.request())
    assert again.record.pixels_sha256 == first.record.pixels_sha256
    assert (first.record.prediction_type, first.record.original_size) == ("epsilon", (512, 384))


@pytest.mark.thorough
@pytest.mark.parametrize("dialect", ["kohya", "diffusers"])
def test_loras_for_both_text_encoders(
    dialect: writer.Dialect, xl: LoadedModel, xl_folder: Path, engine: Engine, tmp_path: Path
) -> None:
    kind = Kind(4, 4.0, CONVOLUTIONS.replace("|mlp", "") + "|q_proj|v_proj|fc1", BOTH_TEXTS)
    pipe, files = stock(xl_folder), []
    for seed in (1, 2):
        adapter = random_adapter(f"lora{seed}", xl.layout, kind, seed)
        files.append(save_plain(adapter, tmp_path / f"lora{seed}.safetensors", dialect))
        pipe.load_lora_weights(str(files[-1]), adapter_name=f"lora{seed}")
    pipe.set_adapters(["lora1", "lora2"], [0.8, -0.5])
    adapters = tuple(AdapterUse(name=str(file), weight=weight) for file, weight in zip(files, (0.8, -0.5), strict=True))
    request = request_for(xl_folder, adapters=adapters, text_encoder_adapters="all")
    with_loras, base, no_text = final_latents(
        engine,
        [
            request,
            request.model_copy(update={"adapters": ()}),
            request.model_copy(update={"text_encoder_adapters": "none"}),
        ],
    )
    theirs = stock_latents(pipe, request)
    assert close(with_loras, theirs)
    assert not close(with_loras, base)
    assert not close(with_loras, no_text)


def test_pictures_of_one_call_do_not_mix(engine: Engine, xl_folder: Path) -> None:
    requests = [
        request_for(xl_folder, prompt="a cat", original_size=(512, 512)),
        request_for(xl_folder, prompt="a mat", guidance_scale=1.0),
    ]
    together = final_latents(engine, requests)
    alone = [final_latents(engine, [request])[0] for request in requests]
    assert all(close(a, b) for a, b in zip(together, alone, strict=True))


def test_the_spec(xl_folder: Path) -> None:
    spec = specs.find(str(xl_folder))
    assert (spec.width, spec.latent_factor) == (1024, 8)
    assert spec.family is None  # of no published width
    assert spec.configs.sdxl and spec.configs.zero_empty
    assert (spec.defaults.scheduler, spec.defaults.guidance_scale) == ("euler", 5.0)
