"""How a model is run: precision, attention, tiles, rescue of an overflowing decoder, and what needs a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from composer.errors import BadRequest, UnknownChoice
from pipelines import specs
from pipelines.devices import Placement, pick_dtype
from pipelines.engine import Engine
from pipelines.model import LoadedModel
from pipelines.runtime import Runtime
from tests.adapters import Shelf, five
from tests.requests import ask, final_latents, uses

CPU = torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def load(folder: Path, **runtime: Any) -> LoadedModel:
    return LoadedModel.load(specs.find(str(folder)), CPU, Runtime(**runtime))


@pytest.mark.parametrize(
    ("field", "value", "nearest"),
    [("dtype", "fp16", "float16"), ("attention", "sdp", "sdpa"), ("offload", "part", "parts")],
)
def test_unknown_choices(field: str, value: Any, nearest: str) -> None:
    with pytest.raises(UnknownChoice, match=f"unknown {field} '{value}'[;:] did you mean '{nearest}'"):
        Runtime(**{field: value})


def test_a_processor_computes_in_single_precision_unless_asked() -> None:
    assert pick_dtype("auto", CPU) == torch.float32
    assert pick_dtype("bfloat16", CPU) == torch.bfloat16


def test_a_type_that_the_device_cannot_compute_in() -> None:
    with pytest.raises(BadRequest, match="dtype 'float16': meta gives wrong results in it or none"):
        pick_dtype("float16", torch.device("meta"))


def test_half_precision_renders_nearly_the_same(small: LoadedModel, small_folder: Path) -> None:
    request = ask(str(small_folder), method="composite", adapters=uses(2))
    half = load(small_folder, dtype="bfloat16")
    ours = Engine(Shelf(five(half.layout)), load=lambda spec: half)
    single = Engine(Shelf(five(small.layout)), load=lambda spec: small)
    rendering = ours.render(request)
    assert rendering.record.dtype == "bfloat16"
    a, b = final_latents(ours, [request])[0].float(), final_latents(single, [request])[0]
    assert 0 < float((a - b).norm() / b.norm()) < 0.1


def test_plain_attention_gives_the_same(small: LoadedModel, small_folder: Path) -> None:
    eager = load(small_folder, attention="eager")
    request = ask(str(small_folder))
    a, b = (final_latents(Engine(Shelf(), load=lambda spec, m=m: m), [request])[0] for m in (eager, small))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert {type(one).__name__ for one in eager.unet.attn_processors.values()} == {"AttnProcessor"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("runtime", "message"),
    [
        (
            {"attention": "xformers"},
            "'xformers' needs an NVIDIA GPU, and the model runs on cpu; choose attention 'sdpa'",
        ),
        ({"offload": "parts"}, "offload 'parts' moves parts between a GPU and memory"),
    ],
)
def test_what_cannot_work_without_a_gpu(runtime: dict[str, str], message: str, small_folder: Path) -> None:
    with pytest.raises(BadRequest, match=message):
        load(small_folder, **runtime)


def test_an_overflowing_decoder_is_rescued(small_folder: Path) -> None:
    """Weights whose products are beyond half precision, and which the next layer brings back."""
    model = load(small_folder, dtype="float16")
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).half()
    with torch.no_grad():
        assert model.decode(latents).notice == ""
        assert "no number, shown black" in model.decode(torch.full_like(latents, torch.nan)).notice
        _overflow(model)
        before = model.parameter_digest()
        decoded = model.decode(latents)
    assert decoded.notice == "the decoder overflowed in float16; it was run in float32"
    assert np.asarray(decoded.image, dtype=int).std() > 1.0
    assert model.parameter_digest() == before


def _overflow(model: LoadedModel) -> None:
    vae = model._parts.vae  # pyright: ignore[reportPrivateUsage]
    *_, before_last, last = [one for one in vae.modules() if isinstance(one, nn.Conv2d)]
    with torch.no_grad():
        before_last.weight.fill_(6e4)
        last.weight.mul_(1e-7)


def test_tiles_give_nearly_the_same(sd15_folder: Path, sd15: LoadedModel) -> None:
    tiled = load(sd15_folder, vae_tiling=True)
    latents = torch.randn(1, 4, 24, 24, generator=torch.Generator().manual_seed(0))
    vae = tiled._parts.vae  # pyright: ignore[reportPrivateUsage]
    vae.tile_latent_min_size, vae.tile_sample_min_size = 12, 96  # type: ignore[assignment]
    with torch.no_grad():
        a, b = (np.asarray(model.decode(latents).image, dtype=int) for model in (tiled, sd15))
    assert a.shape == b.shape == (192, 192, 3)
    assert 0 < abs(a - b).mean() < 40


def test_an_autoencoder_of_another_factor_works_in_tiles_too(small_folder: Path, small: LoadedModel) -> None:
    tiled = load(small_folder, vae_tiling=True)
    latents = torch.randn(1, 4, 24, 24, generator=torch.Generator().manual_seed(0))
    vae = tiled._parts.vae  # pyright: ignore[reportPrivateUsage]
    vae.tile_latent_min_size = 16  # type: ignore[assignment]
    with torch.no_grad():
        a, b = (np.asarray(model.decode(latents).image, dtype=int) for model in (tiled, small))
    assert a.shape == b.shape == (48, 48, 3)
    assert 0 < abs(a - b).mean() < 8


def test_an_engine_loads_as_it_is_told(small_folder: Path) -> None:
    rendering = Engine(runtime=Runtime(dtype="bfloat16")).render(ask(str(small_folder), num_inference_steps=1))
    assert rendering.record.dtype == "bfloat16"


@pytest.mark.gpu
@needs_gpu
def test_a_gpu_computes_in_half_precision() -> None:
    assert pick_dtype("auto", torch.device("cuda")) in (torch.float16, torch.bfloat16)


@pytest.mark.gpu
@needs_gpu
def test_parts_take_turns_on_a_gpu() -> None:
    device = torch.device("cuda", 0)
    parts: dict[str, nn.Module] = {"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)}
    placement = Placement(parts, device, offload=True)
    for wanted in ("a", "b", "a"):
        placement.bring([wanted])
        assert {name for name, part in parts.items() if next(part.parameters()).device.type == "cuda"} == {wanted}


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("offload", ["none", "parts"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_gpu_renders_what_the_processor_renders(
    offload: str, attention: str, small: LoadedModel, small_folder: Path
) -> None:
    request = ask(str(small_folder), method="composite", adapters=uses(2))
    runtime = Runtime(dtype="float32", attention=attention, offload=offload)
    model = LoadedModel.load(specs.find(str(small_folder)), torch.device("cuda"), runtime)
    gpu, processor = (Engine(Shelf(five(m.layout)), load=lambda spec, m=m: m) for m in (model, small))
    a, b = final_latents(gpu, [request])[0].cpu(), final_latents(processor, [request])[0]
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
@needs_gpu
def test_sdxl_decodes_in_single_precision_on_a_gpu(xl_folder: Path) -> None:
    model = LoadedModel.load(specs.find(str(xl_folder)), torch.device("cuda"), replace(Runtime(), dtype="float16"))
    rendering = Engine(Shelf(), load=lambda spec: model).render(
        ask(str(xl_folder), width=64, height=64, num_inference_steps=2)
    )
    assert (rendering.record.dtype, rendering.record.notices) == ("float16", ())
