"""Kept deep features: exact on the input they were kept from, less work, nothing left behind (T11, T12)."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from composer.errors import BadRequest
from composer.masks import Box
from pipelines import specs
from pipelines.attention import AttentionLayers, RowWish, Spot
from pipelines.engine import Engine
from pipelines.features import DeepFeatures
from pipelines.fronts import in_front
from pipelines.model import LoadedModel
from tests.requests import ask, final_latents, uses


def sdxl_shaped() -> UNet2DConditionModel:
    """Return a minute UNet with what SDXL's has and SD1.5's has not."""
    config: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (16, 32, 32),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 1, 2),
        "attention_head_dim": (1, 2, 2),
        "use_linear_projection": True,
        "cross_attention_dim": 24,
        "norm_num_groups": 8,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 6 * 4 + 10,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return UNet2DConditionModel(**config).eval().requires_grad_(False)


@pytest.fixture(scope="module", params=["sd15", "small", "sdxl"])
def unet(request: pytest.FixtureRequest) -> nn.Module:
    return sdxl_shaped() if request.param == "sdxl" else request.getfixturevalue(request.param).unet


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


@torch.no_grad()
def call(unet: Any, latents: Tensor, timestep: float, texts: int = 1) -> Tensor:
    rows = len(latents)
    text = random(rows, 77 * texts, unet.config.cross_attention_dim)
    added = {"text_embeds": random(rows, 10), "time_ids": torch.ones(rows, 6)}
    sdxl = {"added_cond_kwargs": added} if unet.config.addition_embed_type else {}
    return unet(latents, timestep, encoder_hidden_states=text, return_dict=False, **sdxl)[0]


def fronts(unet: nn.Module) -> list[str]:
    return [path for path, part in unet.named_modules() if "forward" in vars(part)]


@pytest.mark.sampled(12)
@pytest.mark.parametrize("size", [(8, 8), (8, 16), (6, 10), (9, 13)], ids=str)
@pytest.mark.parametrize("layers", [0, 1, 2])
def test_the_same_input_gives_the_same_output(unet: nn.Module, layers: int, size: tuple[int, int]) -> None:
    features, latents = DeepFeatures(unet), random(3, 4, *size)
    whole = call(unet, latents, 500.0)
    with features.kept([layers]) as kept:
        assert torch.equal(call(unet, latents, 500.0), whole)  # keeping changes nothing
    with features.shallow(layers, kept[features.layers(layers)]):
        assert float((call(unet, latents, 500.0) - whole).abs().max()) <= 1e-5
    assert fronts(unet) == []
    with features.shallow(layers, kept[features.layers(layers)]):
        other = call(unet, random(3, 4, *size, seed=9), 400.0)
    assert not torch.allclose(other, whole, atol=1e-3)  # the outer layers did see the new input


def test_a_shallow_call_computes_the_outer_layers_only(unet: Any) -> None:
    features, seen = DeepFeatures(unet), list[str]()
    handles = [
        part.register_forward_hook(lambda *_, path=path: seen.append(path))
        for path, part in unet.named_modules()
        if path.split(".")[-2:-1] == ["resnets"]
    ]
    try:
        with features.kept([0, 1]) as kept:
            call(unet, random(1, 4, 8, 8), 10.0)
        last, there = len(unet.up_blocks) - 1, len(unet.up_blocks[-1].resnets)
        for layers in (1, there):
            seen.clear()
            with features.shallow(layers, kept[layers]):
                call(unet, random(1, 4, 8, 8), 10.0)
            down = [f"down_blocks.0.resnets.{n}" for n in range(layers - 1)]
            assert seen == [*down, *(f"up_blocks.{last}.resnets.{n}" for n in range(there - layers, there))]
    finally:
        for handle in handles:
            handle.remove()


def test_areas_on_this_unet(unet: Any) -> None:
    """The same prompt in every area is the prompt; here for every shape of UNet."""
    latents = random(2, 4, 8, 16)
    text = random(2, 77, unet.config.cross_attention_dim)
    added = {"text_embeds": random(2, 10), "time_ids": torch.ones(2, 6)}
    sdxl = {"added_cond_kwargs": added} if unet.config.addition_embed_type else {}
    masks = (Box(0, 0, 0.3, 1), Box(0.2, 0, 0.9, 0.7))
    with torch.no_grad():
        plain = unet(latents, 500.0, encoder_hidden_states=text, return_dict=False, **sdxl)[0]
        rows = [RowWish(tuple(map(Spot, some))) for some in (masks, masks[::-1])]
        with AttentionLayers(unet).opened(rows, 8, 16):
            found = unet(latents, 500.0, encoder_hidden_states=torch.cat([text] * 3, 1), return_dict=False, **sdxl)[0]
    assert float((found - plain).abs().max()) <= 1e-5 and fronts(unet) == []


def test_nothing_stays_in_front_when_a_call_raises(unet: Any) -> None:
    module = copy.deepcopy(unet)
    features = DeepFeatures(module)
    with features.kept([1]), pytest.raises(RuntimeError, match="this ResnetBlock2D already"), features.kept([1]):
        pass
    assert len(fronts(module)) == 0
    with pytest.raises(ZeroDivisionError), in_front({module.conv_in: lambda _x: 1 / 0}):
        call(module, random(1, 4, 8, 8), 1.0)
    assert fronts(module) == []


@pytest.mark.parametrize("point", ["block", "layer"])
def test_passes_are_as_planned(point: str, engine: Engine, small: LoadedModel, small_folder: Path) -> None:
    """T12: whole and shallow passes, counted where they happen."""
    deep, outer = list[int](), list[int]()
    hooks = [
        small.unet.get_submodule("mid_block.resnets.0").register_forward_hook(
            lambda _m, _a, out: deep.append(len(out))
        ),
        small.unet.get_submodule("conv_out").register_forward_hook(lambda _m, _a, out: outer.append(len(out))),
    ]
    request = ask(
        str(small_folder),
        method="cmlora",
        adapters=uses(3),
        num_inference_steps=7,
        parameters={"interval": 3, "reuse": point},
    )
    try:
        record = engine.render(request).record
    finally:
        for hook in hooks:
            hook.remove()
    assert deep == [6, 2, 2]  # three LoRAs at step 0, one each at steps 3 and 6; two rows with guidance
    assert sum(outer) == 7 * 3 * 2
    assert (record.unet_passes, record.shallow_passes, record.unet_calls) == (5, 16, 9)
    cost = engine.dry_run(request)
    assert (cost.unet_passes, cost.unet_rows, cost.shallow_passes, cost.unet_calls) == (5, 10, 16, 9)


def test_without_a_lead_and_without_reuse_it_is_composite(engine: Engine, small_folder: Path) -> None:
    common: dict[str, Any] = {"adapters": uses(3), "num_inference_steps": 6}
    wanted = final_latents(engine, [ask(str(small_folder), method="composite", **common)])[0]

    def found(**parameters: Any) -> Tensor:
        asked = ask(str(small_folder), method="cmlora", parameters={"lead": 0.0, **parameters}, **common)
        return final_latents(engine, [asked])[0]

    assert float((found(interval=1) - wanted).abs().max()) <= 1e-5
    assert float((found(reuse="off") - wanted).abs().max()) <= 1e-5
    reused = found()
    assert 1e-4 < float((reused - wanted).abs().max()) < float(wanted.abs().max())


def test_a_unet_without_depth_is_refused(engine: Engine, small_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flat = replace(specs.find(str(small_folder)), capabilities=frozenset({"cross-attention"}))
    monkeypatch.setattr(specs, "find", lambda name: flat)
    with pytest.raises(BadRequest, match="'cmlora' needs deep features, which .* has not"):
        engine.dry_run(ask(str(small_folder), method="cmlora", adapters=uses(2)))
