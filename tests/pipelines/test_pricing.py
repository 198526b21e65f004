"""What is told of a rendering's arithmetic and memory without a model, held to what torch counts when it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from composer.request import AdapterUse, Hires, RenderRequest
from eval.memory import rise
from pipelines import flops, specs
from pipelines.engine import Engine
from pipelines.errors import BadModel
from pipelines.flops import DecoderCost, Latents, ModelCost, UnetCost
from pipelines.model import LoadedModel
from pipelines.pricing import price, shares, usual_gflop
from pipelines.runtime import Runtime
from tests import checkpoints
from tests.adapters import Shelf, five
from tests.checkpoints import SD, TRUE_SD, TRUE_XL, XL, Widths
from tests.requests import ask, uses

META = torch.device("meta")


def counted(act: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        act()
    return counter.get_total_flops()


def called(unet: Any, height: int, width: int, tokens: int) -> int:
    """Return what torch counts of one row on the meta device, where attention is counted product by product."""
    wide = unet.config.get("projection_class_embeddings_input_dim")
    with META:
        sizes = {"text_embeds": torch.ones(1, (wide or 6 * 256) - 6 * 256), "time_ids": torch.ones(1, 6)}
    latents = torch.ones(1, unet.config.in_channels, height, width, device=META)
    text = torch.ones(1, tokens, unet.config.cross_attention_dim, device=META)
    time = torch.ones(1, device=META)
    return counted(lambda: unet(latents, time, encoder_hidden_states=text, added_cond_kwargs=sizes if wide else None))


def modules(widths: Widths) -> dict[str, Any]:
    with META:
        return cast(dict[str, Any], checkpoints.modules(widths))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("widths", "sizes"),
    [
        (SD, [(8, 8, 77), (16, 24, 154)]),
        (XL, [(16, 16, 77)]),
        pytest.param(TRUE_SD, [(64, 64, 77), (96, 96, 154), (72, 56, 77)], id="SD1.5"),
        pytest.param(TRUE_XL, [(128, 128, 77), (104, 152, 77)], id="SDXL"),
    ],
)
def test_a_row_takes_what_torch_counts(widths: Widths, sizes: list[tuple[int, int, int]]) -> None:
    unet = modules(widths)["unet"]
    cost = UnetCost(dict(unet.config))
    for height, width, tokens in sizes:
        assert cost.row(Latents(height, width, tokens)) == called(unet, height, width, tokens)


def test_a_row_of_the_embedded_model_takes_what_torch_counts() -> None:
    unet: Any = LoadedModel.load(specs.find("tiny"), torch.device("cpu")).unet.to(META)
    cost = UnetCost(specs.find("tiny").configs.unet)
    for side in (16, 33):
        assert cost.row(Latents(side, side, 77)) == called(unet, side, side, 77)


def test_attention_grows_with_the_square_of_the_picture() -> None:
    """At 12 times the side, 144 times the places: what is left of a row beyond 144 times is self-attention's."""
    cost = UnetCost(specs.find("tiny").configs.unet)
    small, large = (cost.row(Latents(side, side, 77)) for side in (16, 192))
    assert large / small == pytest.approx(1496, abs=1)


@pytest.mark.parametrize("widths", [SD, TRUE_SD], ids=["small", "true"])
def test_a_decoding_and_a_text_take_what_torch_counts(widths: Widths) -> None:
    made = modules(widths)
    vae, text = made["vae"], made["text_encoder"]
    found = counted(lambda: vae.decode(torch.ones(1, 4, 16, 24, device=META)))
    assert DecoderCost(dict(vae.config)).picture(16, 24).flop == found
    read = counted(lambda: text(torch.ones(1, 77, dtype=torch.long, device=META)))
    model = ModelCost(UnetCost(dict(made["unet"].config)), DecoderCost(dict(vae.config)), [text.config.to_dict()])
    assert model.text == read


def test_a_decoding_of_the_embedded_model_takes_what_torch_counts() -> None:
    vae: Any = LoadedModel.load(specs.find("tiny"), torch.device("cpu")).component("vae").to(META)
    found = counted(lambda: vae.decode(torch.ones(1, 12, 16, 16, device=META)))
    assert DecoderCost(specs.find("tiny").configs.vae).picture(16, 16).flop == found


TRIO = tuple(AdapterUse(name=name) for name in ("zorp", "striped_vest", "trident"))


@pytest.fixture(scope="module")
def eager() -> Engine:
    """Attention in plain products: torch's counter leaves out the fused one of processors."""
    engine = Engine(runtime=Runtime(attention="eager"))
    engine.render(RenderRequest(prompt="a", num_inference_steps=1))  # what a process does once
    return engine


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("fields", "low", "high"),
    [
        ({}, 0.99, 1.01),
        ({"adapters": TRIO[:1]}, 0.95, 1.01),  # factors of LoRAs come on top
        ({"adapters": TRIO, "method": "composite"}, 0.95, 1.01),
        ({"adapters": TRIO, "method": "cmlora"}, 0.95, 1.01),
        ({"hires": Hires(scale=2.0, strength=0.5)}, 0.95, 1.05),  # to encode is told as to decode
        (
            {"adapters": TRIO, "method": "clora", "parameters": {"refine": 1}},
            0.95,
            2.0,
        ),  # looks are told by what they take at most
        ({"prompt": "a cat AND a hat AND a hill"}, 0.99, 1.01),
    ],
    ids=["plain", "LoRA", "composite", "cmlora", "hires", "clora", "AND"],
)
def test_a_picture_takes_what_was_told(fields: dict[str, Any], low: float, high: float, eager: Engine) -> None:
    asked: dict[str, Any] = {"prompt": "zorp, a striped vest and a golden trident", "num_inference_steps": 2, **fields}
    request = RenderRequest(**asked)
    found = counted(lambda: eager.render(request))
    told = eager.dry_run(request).gflop * 1e9
    assert low < told / found < high


def test_memory_is_told_in_its_order_of_size() -> None:
    engine = Engine()
    request = RenderRequest(prompt="a", width=256, height=256, num_inference_steps=1)
    engine.render(RenderRequest(prompt="a", num_inference_steps=1))
    found = rise(torch.device("cpu"), lambda: engine.render(request))
    if found is None:
        pytest.skip("this system does not tell how much memory was taken")
    assert 0.4 < engine.dry_run(request).memory / (found * 1e6) < 2.5


def test_figures_of_goes_add_up_and_peaks_do_not(engine: Engine, small_folder: Path) -> None:
    one = engine.dry_run(ask(str(small_folder)))
    two = one + one
    assert (two.unet_passes, two.gflop) == (2 * one.unet_passes, 2 * one.gflop)
    assert (two.memory, two.pass_gflop) == (one.memory, one.pass_gflop)


def test_a_second_pass_costs_by_its_own_size(engine: Engine, small_folder: Path) -> None:
    plain = engine.dry_run(ask(str(small_folder)))
    twice = engine.dry_run(ask(str(small_folder), hires=Hires(scale=4.0, strength=1.0)))
    assert twice.unet_passes == 2 * plain.unet_passes
    assert twice.gflop > 17 * plain.gflop  # 16 times the places, and attention's square


def test_pictures_share_their_time_by_what_each_takes(small: LoadedModel, small_folder: Path) -> None:
    engine = Engine(Shelf(five(small.layout)), load=lambda _spec: small)
    both = [ask(str(small_folder), adapters=uses(4), method=method) for method in ("merge", "composite")]
    resolved = [engine.resolve(request) for request in both]
    merge, composite = shares(resolved)
    costs = [price([one], 1).gflop for one in resolved]
    assert merge + composite == pytest.approx(1.0)
    assert composite / merge == pytest.approx(costs[1] / costs[0])
    first, second = (made.record.seconds or 0.0 for made in engine.render_many(both))
    assert second / first == pytest.approx(composite / merge)


def test_a_usual_picture_is_one(engine: Engine) -> None:
    spec = specs.find("tiny")
    assert usual_gflop(spec) == pytest.approx(Engine().dry_run(RenderRequest(prompt="a")).gflop)


@pytest.mark.parametrize(
    "change",
    [
        {"layers_per_block": [1]},
        {"layers_per_block": 10**9},
        {"transformer_layers_per_block": "many"},
        {"up_block_types": ["UpBlock2D"]},
        {"block_out_channels": "wide"},
    ],
    ids=str,
)
def test_configurations_that_are_no_network_are_refused(change: dict[str, Any]) -> None:
    configs = specs.find("tiny").configs
    with pytest.raises(BadModel, match="do not fit each other"):
        ModelCost.of(replace(configs, unet={**configs.unet, **change}))


def test_what_layers_of_lists_cost_is_their_largest() -> None:
    config = {**specs.find("tiny").configs.unet, "transformer_layers_per_block": [[1, 2], 1, 1]}
    twice = {**config, "transformer_layers_per_block": [2, 1, 1]}
    assert UnetCost(config).row(Latents(8, 8, 77)) == UnetCost(twice).row(Latents(8, 8, 77))
    assert flops.conv(1, 2, 3, 1) == 12.0


def test_tensors_are_not_needed(engine: Engine) -> None:
    assert not isinstance(engine.price([]).gflop, Tensor)
