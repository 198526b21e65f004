"""Weights by block: the names of each model's blocks, what may be written, and the deltas to the last bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from composer.blocks import PRESETS, UnetBlocks, of_paths, of_unet, shaped, table
from composer.errors import BadRequest
from lora_zoo.adapter import Adapter, DenseDelta, LowRank

YES, NO = True, False
SD15 = of_unet([YES, YES, YES, NO], [NO, YES, YES, YES], [2, 2, 2, 2])
SDXL = of_unet([NO, YES, YES], [YES, YES, NO], [2, 2, 2])

#: As published for the lists of each length.
LISTS = {
    17: "BASE IN01 IN02 IN04 IN05 IN07 IN08 MID OUT03 OUT04 OUT05 OUT06 OUT07 OUT08 OUT09 OUT10 OUT11",
    12: "BASE IN04 IN05 IN07 IN08 MID OUT00 OUT01 OUT02 OUT03 OUT04 OUT05",
}


@pytest.mark.parametrize(("blocks", "full", "attending"), [(SD15, 26, 17), (SDXL, 20, 12)])
def test_the_blocks_of_the_lists(blocks: UnetBlocks, full: int, attending: int) -> None:
    assert len(blocks.all) == full
    assert " ".join(blocks.attending) == LISTS[attending]
    half = full // 2 - 1
    numbered = [f"{side}{n:02d}" for side in ("IN", "OUT") for n in range(half)]
    assert list(blocks.all) == ["BASE", *numbered[:half], "MID", *numbered[half:]]


def test_a_list_by_its_length() -> None:
    short = table(tuple(n / 10 for n in range(17)), SD15)
    assert (short["BASE"], short["IN04"], short["MID"], short["OUT11"]) == (0.0, 0.3, 0.7, 1.6)
    assert short["IN00"] == short["IN03"] == short["OUT00"] == 0.0
    full = table(",".join(str(n) for n in range(26)), SD15)
    assert list(full.values()) == list(range(26))


def test_a_table_leaves_other_blocks_alone() -> None:
    found = table("in04:0.5, M00:0", SDXL)
    assert {name: weight for name, weight in found.items() if weight != 1.0} == {"IN04": 0.5, "MID": 0.0}
    assert found == table({"IN04": 0.5, "MID": 0.0}, SDXL)
    assert found == table(found, SDXL)  # what a record holds means the same again


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_those_of_the_lists(preset: str) -> None:
    listed = {
        "ALL": "1," * 16 + "1",
        "NONE": "0," * 16 + "0",
        "INS": "1,1,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0",
        "IND": "1,0,0,0,1,1,1,0,0,0,0,0,0,0,0,0,0",
        "INALL": "1,1,1,1,1,1,1,0,0,0,0,0,0,0,0,0,0",
        "MIDD": "1,0,0,0,1,1,1,1,1,1,1,1,0,0,0,0,0",
        "OUTD": "1,0,0,0,0,0,0,0,1,1,1,1,0,0,0,0,0",
        "OUTS": "1,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,1",
        "OUTALL": "1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1",
    }
    found, wanted = table(preset.lower(), SD15), table(listed[preset], SD15)
    assert {name: found[name] for name in SD15.attending} == {name: wanted[name] for name in SD15.attending}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((1.0, 2.0), "takes 12 numbers, for the blocks with attention, or 20, for all; got 2"),
        ("1,x", "'x' is not a number"),
        ("IN04:0.5,MID", "not a number"),
        ("IN04:1000", "-100 to 100"),
        ({"BASS": 1.0}, "did you mean 'BASE'"),
        ("INAL", "'INALL'"),
        ("INS", "made for SD1.5"),
        ("R", "neither a list"),
    ],
)
def test_what_means_nothing_is_an_error(given: Any, told: str) -> None:
    with pytest.raises(BadRequest) as raised:
        table(given, SDXL)
    assert told in str(raised.value)


PATHS = {
    "conv_in": "IN00",
    "time_embedding.linear_1": None,
    "down_blocks.0.resnets.0.conv1": "IN01",
    "down_blocks.0.attentions.0.proj_in": "IN01",
    "down_blocks.0.resnets.1.conv1": "IN02",
    "down_blocks.0.attentions.1.proj_in": "IN02",
    "down_blocks.0.downsamplers.0.conv": "IN03",
    "down_blocks.1.resnets.0.conv1": "IN04",
    "down_blocks.1.resnets.1.conv1": "IN05",
    "mid_block.attentions.0.proj_in": "MID",
    "up_blocks.0.resnets.0.conv1": "OUT00",
    "up_blocks.0.upsamplers.0.conv": "OUT02",
    "up_blocks.0.resnets.2.conv1": "OUT02",
    "up_blocks.0.resnets.1.conv1": "OUT01",
    "up_blocks.1.resnets.0.conv1": "OUT03",
    "conv_out": None,
}


def test_modules_belong_to_blocks() -> None:
    found = of_paths(list(PATHS))
    assert {path: found.get(path) for path in PATHS} == PATHS


def test_deltas_are_multiplied_block_by_block() -> None:
    generator = torch.Generator().manual_seed(0)
    low = {
        path: LowRank(torch.randn(2, 5, generator=generator), torch.randn(4, 2, generator=generator)) for path in PATHS
    }
    whole = DenseDelta(torch.randn(4, 5, generator=generator))
    layers = {
        "unet": {**low, "conv_in": whole},
        "text_encoder": {"layers.0": LowRank(torch.ones(1, 3), torch.ones(3, 1))},
    }
    adapter = Adapter("ink", "0" * 64, layers)
    layout = {"unet": dict.fromkeys(PATHS, (4, 5)), "text_encoder": {"layers.0": (3, 3)}}
    factors = {"BASE": 0.25, "IN00": -2.0, "IN01": 0.5, "MID": 0.0, "OUT02": 1.0, "OUT00": 3.0}
    found = shaped(adapter, factors, layout)
    assert "mid_block.attentions.0.proj_in" not in found.component("unet")
    for path, delta in found.component("unet").items():
        factor = factors.get(PATHS[path] or "", 1.0)
        torch.testing.assert_close(delta.dense(), factor * adapter.component("unet")[path].dense())
    assert torch.equal(found.component("text_encoder")["layers.0"].dense(), torch.full((3, 3), 0.25))
    assert found.digest != adapter.digest
    assert shaped(adapter, dict(reversed(factors.items())), layout).digest == found.digest
    assert shaped(adapter, {**factors, "MID": 0.1}, layout).digest != found.digest
