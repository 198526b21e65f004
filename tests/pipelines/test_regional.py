"""Regions: full ones are plain LoRAs, empty ones the base (T24); what acts where, layer by layer; masks in requests."""

from __future__ import annotations

import base64
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from PIL import Image
from torch import Tensor, nn

from composer.errors import BadRequest
from composer.masks import Box, Drawn
from composer.request import AdapterUse, Region, RenderRequest, parse_request
from lora_zoo.adapter import DenseDelta, LowRank
from pipelines.attention import AttentionLayers, RowWish, Spot
from pipelines.engine import Engine
from pipelines.local import Drawings, Term, Where, grid, local_layer
from pipelines.model import LoadedModel
from tests.requests import ask, final_latents, uses

LEVELS = ("tokens", "attention", "noise")
FULL, LEFT = Box(0, 0, 1, 1), Box(0, 0, 0.5, 1)
WIDE: dict[str, Any] = {"width": 24, "height": 12}  # latents of 6 x 12


def close(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    return float((a - b).abs().max()) <= tolerance


def placed(use: AdapterUse, **region: Any) -> AdapterUse:
    return use.model_copy(update={"region": Region(**region)})


def white(value: int, size: tuple[int, int] = (12, 6)) -> str:
    buffer = BytesIO()
    Image.new("L", size, value).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("first", [1, 2, 4])
def test_a_full_region_is_the_lora_with_the_regions_prompt(
    level: str, first: int, engine: Engine, small_folder: Path
) -> None:
    use = uses(1, first)[0]
    common: dict[str, Any] = {**WIDE, "text_encoder_adapters": "all"}
    plain = ask(str(small_folder), adapters=(use,), prompt="on", **common)
    full = placed(use, box=(0, 0, 1, 1), prompt="on")
    found = ask(str(small_folder), adapters=(full,), method="regional", parameters={"level": level}, **common)
    assert close(final_latents(engine, [plain])[0], final_latents(engine, [found])[0])


@pytest.mark.parametrize("level", ["tokens", "noise"])
def test_an_empty_region_is_refused(level: str, engine: Engine, small_folder: Path) -> None:
    nowhere = tuple(placed(use, mask=white(0)) for use in uses(3, 1))
    found = ask(str(small_folder), adapters=nowhere, method="regional", parameters={"level": level}, **WIDE)
    with pytest.raises(BadRequest, match="its LoRA would act nowhere"):
        engine.resolve(found)


@pytest.mark.parametrize("level", LEVELS)
def test_a_region_is_seen(level: str, engine: Engine, small_folder: Path) -> None:
    half = (placed(uses(1, 1)[0], box=(0, 0, 0.5, 1), prompt="on"), *uses(1, 2))
    asked = ask(str(small_folder), adapters=half, method="regional", parameters={"level": level}, **WIDE)
    without = asked.model_copy(update={"adapters": tuple(use.model_copy(update={"region": None}) for use in half)})
    here, everywhere = (final_latents(engine, [one])[0] for one in (asked, without))
    assert not close(here, everywhere, 1e-2)


def test_levels_cost_what_they_say(engine: Engine, small_folder: Path) -> None:
    halves = (placed(uses(1)[0], box=(0, 0, 0.5, 1)), placed(uses(1, 1)[0], box=(0.5, 0, 1, 1)))
    thirds = (placed(uses(1)[0], box=(0, 0, 0.3, 1)), placed(uses(1, 1)[0], box=(0.5, 0, 1, 1)))

    def passes(adapters: tuple[AdapterUse, ...], level: str) -> int:
        asked = ask(str(small_folder), adapters=adapters, method="regional", parameters={"level": level})
        return engine.dry_run(asked).unet_passes // 3

    assert [passes(halves, level) for level in LEVELS] == [1, 1, 2]
    assert [passes(thirds, level) for level in LEVELS] == [1, 1, 3]  # the third is of what neither covers


@pytest.mark.parametrize("level", LEVELS)
def test_a_mask_file_is_the_box_it_shows_and_a_record_needs_no_file(
    level: str, engine: Engine, small_folder: Path, tmp_path: Path
) -> None:
    picture = Image.new("RGB", (48, 24))
    picture.paste((255, 255, 255), (0, 0, 24, 24))
    picture.save(tmp_path / "mask.png")
    by_file = placed(uses(1)[0], mask=str(tmp_path / "mask.png"))
    by_box = placed(uses(1)[0], box=(0, 0, 0.5, 1))
    common: dict[str, Any] = {**WIDE, "method": "regional", "parameters": {"level": level}}
    first = engine.render(ask(str(small_folder), adapters=(by_file,), **common))
    assert first.image == engine.render(ask(str(small_folder), adapters=(by_box,), **common)).image
    (tmp_path / "mask.png").unlink()
    again = RenderRequest.model_validate_json(first.record.request().model_dump_json())
    assert engine.render(again).image == first.image
    assert engine.resolve(again).request == again


@pytest.mark.parametrize(
    ("region", "method", "message"),
    [
        ({"box": (0, 0, 1, 1)}, "merge", "'lora0' has a region, which method 'merge' does not .* regional"),
        ({"mask": "no/such.png"}, "regional", "cannot read the mask 'no/such.png'"),
        ({"mask": "data:image/png;base64,?"}, "regional", "cannot read the mask of the request"),
        ({"mask": white(255, (8, 8))}, "regional", "is 8x8, which has not the picture's proportions, 12:6"),
    ],
)
def test_mistakes_are_told_before_any_work(
    region: dict[str, Any], method: str, message: str, engine: Engine, small_folder: Path
) -> None:
    asked = ask(str(small_folder), adapters=(placed(uses(1)[0], **region),), method=method, **WIDE)
    with pytest.raises(BadRequest, match=message):
        engine.dry_run(asked)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ({}, "either a box or a mask"),
        ({"box": (0, 0, 1, 1), "mask": "m.png"}, "either a box or a mask"),
        ({"box": (0.5, 0, 0.5, 1)}, "left < right"),
        ({"box": (0, 0, 1, 1.5)}, "all from 0 to 1"),
    ],
)
def test_regions_are_somewhere(region: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        parse_request({"adapters": [{"name": "a", "region": region}]})


def test_the_grid_of_tokens() -> None:
    assert [grid(n, 6, 12) for n in (72, 18, 6, 2)] == [(6, 12), (3, 6), (2, 3), (1, 2)]
    assert grid(4 * 5, 7, 9) == (4, 5)
    with pytest.raises(RuntimeError, match="no grid"):
        grid(35, 6, 12)


def where(mask: Box | Drawn, block: int = 1) -> Where:
    return Where(mask, 4, 6, block, 3)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


LAYERS: list[tuple[nn.Linear | nn.Conv2d, tuple[int, ...]]] = [
    (nn.Linear(5, 7), (2, 24, 5)),
    (nn.Linear(5, 7), (2, 5)),
    (nn.Conv2d(5, 7, 3, padding=1), (2, 5, 4, 6)),
    (nn.Conv2d(5, 7, 3, stride=2, padding=1), (2, 5, 4, 6)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS)
@pytest.mark.parametrize("dense", [False, True])
def test_a_layer_with_full_and_empty_masks(layer: nn.Linear | nn.Conv2d, shape: tuple[int, ...], dense: bool) -> None:
    low = LowRank(random(3, *layer.weight.shape[1:]), random(7, 3))
    delta = DenseDelta(low.dense()) if dense else low
    x, empty = random(*shape), Box(0.5, 0, 0.5, 1)
    terms = [Term(0, delta, 0.5, where(FULL)), Term(1, delta, 1.0, where(empty))]
    found = local_layer(layer, layer.forward, terms, Drawings(), reads_text=False)(x)
    plain = layer(x)
    bare = {nn.Linear: nn.functional.linear, nn.Conv2d: layer._conv_forward if isinstance(layer, nn.Conv2d) else None}
    change = bare[type(layer)](x, low.dense().reshape(layer.weight.shape), None)  # type: ignore[misc]
    assert close(found[0], plain[0] + 0.5 * change[0], 1e-5) and torch.equal(found[1], plain[1])
    assert not close(found[0], plain[0], 0.1)


def test_inside_one_region_the_others_lora_has_no_part() -> None:
    layer, x = nn.Linear(5, 7), random(1, 24, 5)
    right = Box(0.5, 0, 1, 1)
    one, two = (LowRank(random(n, 5), random(7, n)) for n in (2, 3))

    def output(weight: float) -> Tensor:
        terms = [Term(0, one, 1.0, where(LEFT)), Term(0, two, weight, where(right))]
        out = local_layer(layer, layer.forward, terms, Drawings(), reads_text=False)(x)
        return out.reshape(4, 6, 7)

    assert torch.equal(output(1.0)[:, :3], output(-9.0)[:, :3])
    assert not close(output(1.0)[:, 3:], output(-9.0)[:, 3:], 1.0)


def test_words_are_blocks() -> None:
    layer, x = nn.Linear(5, 7), random(1, 12, 5)
    delta = LowRank(random(2, 5), random(7, 2))
    out = local_layer(layer, layer.forward, [Term(0, delta, 1.0, where(LEFT, 2))], Drawings(), reads_text=True)(x)
    assert torch.equal(out[:, :8], layer(x)[:, :8])
    assert close(out[:, 8:], (layer(x) + x @ delta.dense().T)[:, 8:], 1e-5)


def spots(masks: tuple[Box, ...]) -> RowWish:
    return RowWish(tuple(map(Spot, masks)))


@torch.no_grad()
def test_each_token_reads_its_prompt(sd15: LoadedModel) -> None:
    """Against diffusers' own attention, called once per prompt."""
    layers = [part for part in sd15.unet.modules() if getattr(part, "is_cross_attention", False)]
    layer: Any = layers[0]
    hidden, contexts = random(2, 24, layer.query_dim), [random(2, 77, 32) + n for n in range(3)]
    wanted = [AttnProcessor2_0()(layer, hidden, context).unflatten(1, (4, 6)) for context in contexts]
    masks = (LEFT, Box(0, 0, 1, 0.5))
    with AttentionLayers(sd15.unet).opened([spots(masks)] * 2, 4, 6):
        found = layer(hidden, encoder_hidden_states=torch.cat(contexts, 1)).unflatten(1, (4, 6))
    assert close(found[:, 2:, 3:], wanted[0][:, 2:, 3:], 1e-5)  # nobody's: the pass's own prompt
    assert close(found[:, 2:, :3], wanted[1][:, 2:, :3], 1e-5)
    assert close(found[:, :2, 3:], wanted[2][:, :2, 3:], 1e-5)
    assert close(found[:, :2, :3], (wanted[1] + wanted[2])[:, :2, :3] / 2, 1e-5)
    assert all("forward" not in vars(part) for part in layers)


def test_every_layer_that_reads_words_is_known(sd15: LoadedModel) -> None:
    wanted = {path for path in sd15.layout["unet"] if re.search(r"attn2\.to_[kv]$", path)}
    assert sd15.bank._reads_text == wanted
