"""What the command line refuses, and that nothing is written then."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from lora_zoo.errors import UnknownName, nearest_file, shortened
from pipelines.cli import main
from tests.stand_ins import model_without_weights, two_loras


@pytest.fixture
def model(tmp_path: Path) -> str:
    return model_without_weights(tmp_path / "model")


@pytest.fixture(autouse=True)
def _zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_loras(tmp_path, monkeypatch)


MISTAKES = {
    "unknown LoRA": (["--lora", "zrop"], "'zorp'"),
    "unknown method": (["--method", "swich"], "'switch'"),
    "unknown scheduler": (["--scheduler", "eular"], "'euler'"),
    "unknown model": (["--model", "tinny"], "'tiny'"),
    "model folder without parts": (["--model", "."], "unet"),
    "unknown parameter": (["--method", "switch", "--lora", "zorp", "--set", "intervall=2"], "'interval'"),
    "parameter out of range": (["--method", "switch", "--lora", "zorp", "--set", "interval=0"], "interval"),
    "parameter without a value": (["--set", "interval"], "KEY=VALUE"),
    "parameter given twice": (["--set", "combine=sum", "--set", "combine=mean"], "twice"),
    "NaN weight": (["--lora", "zorp:nan"], "finite"),
    "NaN text-encoder weight": (["--lora", "zorp:1:nan"], "finite"),
    "infinite guidance": (["--guidance", "inf"], "finite"),
    "a weight that is no number": (["--lora", "zorp:much"], "'much'"),
    "the same LoRA twice": (["--lora", "zorp", "--lora", "zorp"], "zorp"),
    "size not divisible": (["--size", "62x64"], "try 64"),
    "size that is none": (["--size", "big"], "WIDTHxHEIGHT"),
    "no steps": (["--steps", "0"], "num_inference_steps"),
    "negative seed": (["--seed", "-2"], "seed"),
    "no pictures": (["--count", "0"], "--count"),
    "method without LoRAs": (["--method", "composite"], "LoRA"),
    "missing LoRA file": (["--lora", "nowhere/x.safetensors"], "nowhere/x.safetensors"),
    "missing picture": (["--from", "nowhere.png"], "nowhere.png"),
    "picture without a record": (["--from", "../plain.png"], "no record"),
    "LoRA file that is none": (["--lora", "../plain.png"], "safetensors"),
    "unknown text policy": (["--text-policy", "al"], "'all'"),
    "folder that is a file": (["--out", "../plain.png/sub"], "file"),
    "words without a LoRA": (["--words", "zorp=zorp"], "none is known"),
    "words of another LoRA": (["--lora", "zorp", "--words", "zrop=zorp"], "'zorp'"),
    "words that are none": (["--lora", "zorp", "--words", "zorp=a,,b"], "words.1"),
    "words given twice": (["--lora", "zorp", "--words", "zorp=a", "--words", "zorp=b"], "twice"),
    "words not in the prompt": (["--lora", "zorp", "--words", "zorp=zorb", "--method", "w_switch"], "'zorp'"),
    "no trigger words in the prompt": (["--lora", "trident", "--method", "w_composite"], "'the trident'"),
    "a region of another LoRA": (["--lora", "zorp", "--region", "zrop=0,0,1,1"], "'zorp'"),
    "a region of three sides": (["--lora", "zorp", "--region", "zorp=0,0,1"], "LEFT,TOP,RIGHT,BOTTOM"),
    "a region that is no file": (["--lora", "zorp", "--region", "zorp=mask.png"], "no file of this name"),
    "a region out of the picture": (["--lora", "zorp", "--region", "zorp=0,0,1,2"], "all from 0 to 1"),
    "a region given twice": (["--lora", "zorp", "--region", "zorp=0,0,1,1", "--region", "zorp=0,0,1,1"], "twice"),
    "a region that the method ignores": (["--lora", "zorp", "--region", "zorp=0,0,1,1"], "regional"),
    "a prompt without a region": (["--lora", "zorp", "--region-prompt", "zorp=x"], "--region zorp="),
    "a frequency that nobody measured": (
        ["--lora", "zorp", "--lora", "trident", "--method", "cmlora"],
        "zoo profile zorp",
    ),
    "undesired strength out of range": (["--undesired", "x", "--undesired-strength", "2"], "undesired_strength"),
    "undesired strength of nothing": (["--undesired-strength", "0.5"], "--undesired-strength belongs to --undesired"),
    "a device to repeat": (["--from", "/dev/null"], "/dev/null: a device, not a regular file"),
    "a device to begin with": (["--init", "/dev/null"], "/dev/null: a device, not a regular file"),
    "a device for a LoRA": (["--lora", "/dev/null"], "/dev/null: a device, not a regular file"),
    "a device for a model": (["--model", "/dev/null"], "/dev/null: a device, not a regular file"),
    "a device for a mask": (
        ["--lora", "zorp", "--method", "regional", "--region", "zorp=/dev/null"],
        "/dev/null: a device, not a regular file",
    ),
    "no folder for pictures": (["--out", ""], "--out: the path is empty; name a folder or a file"),
    "no picture to begin with": (["--init="], "--init: the path is empty"),
    "no folder of values": (["--wildcards", ""], "--wildcards: the path is empty"),
    "unknown option": (["--promt", "x"], "--prompt"),
    "guidance below 1": (["--guidance", "0"], "(got 0.0); 1 switches guidance off"),
    "a model by a family's name": (["--model", "sd15"], "named by its folder or file, or as OWNER/NAME"),
    "a weight behind a comma": (["--lora", "zorp,0.8"], "A weight is written behind a colon: zorp:0.8."),
    "a weight behind an equals sign": (["--lora", "zorp=1"], "A weight is written behind a colon: zorp:1."),
    "steps that end before they begin": (["--lora", "zorp", "--during", "zorp=20-5"], "begins at 20 and ends before 5"),
    "parts that end before they begin": (["--lora", "zorp", "--during", "zorp=0.8-0.2"], "begins at 0.8 and ends"),
    "A1111's Karras sampler": (["--scheduler", "DPM++ 2M Karras"], "here it is 'dpmpp_2m_karras'."),
    "ComfyUI's sampler": (["--scheduler", "dpmpp_2m_sde"], "here it is 'dpmpp_sde'."),
    "A1111's sampler, spaced": (["--scheduler", "DPM++ 2M SDE Karras"], "'dpmpp_sde' spaces them its own way"),
    "a sampler that is not here": (
        ["--scheduler", "DPM++ SDE Karras"],
        "'dpmpp_sde' is A1111's DPM++ 2M SDE; with Karras",
    ),
    "a mask without a place": (
        ["--lora", "zorp", "--method", "regional", "--region", "zorp=../black.png"],
        "act nowhere",
    ),
}


@pytest.mark.parametrize(("options", "told"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_and_nothing_is_written(
    options: list[str], told: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    Image.new("L", (64, 64)).save(tmp_path / "black.png")
    before = sorted(tmp_path.rglob("*"))
    assert main(["render", "--prompt", "zorp", "--model", model, *options]) == 2
    said = capsys.readouterr()
    assert told in said.err
    assert said.out == ""
    assert "Traceback" not in said.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["render"], "--prompt"),
        (["list", "lora"], "'loras'"),
        (["inspect", "../zoo/zorp.safetensor"], "zorp.safetensors"),
        (["inspect", "../zoo/catalog.json"], "safetensors"),
        (["inspect", ".."], "PEFT"),
        (["rendr"], "rendr"),
        (["inspect", "pipe"], "pipe: a pipe, not a regular file"),
        (["merge", "zorp", "./pipe", "--out", "out.safetensors"], "pipe: a pipe, not a regular file"),
        (["batch", "pipe", "--out", "out"], "pipe: a pipe, not a regular file"),
        (["inspect", ""], "an argument is empty"),
        (["batch", "jobs.yaml", "--out", ""], "--out: the path is empty"),
        (["batch", "jobs.yaml", "--out="], "--out: the path is empty"),
        (["merge", "zorp", "-o", ""], "-o: the path is empty"),
        (["zoo", "list", "--zoo", ""], "--zoo: the path is empty"),
    ],
)
def test_other_mistakes_are_told_too(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "pipe" in told:
        (tmp_path / "pipes").mkdir()
        monkeypatch.chdir(tmp_path / "pipes")
        os.mkfifo("pipe")
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert told in said.err
    assert said.out == ""


@pytest.mark.parametrize("options", [["--lora", "nope"], ["--scheduler", "heun"], ["--lora", "nope.safetensors"]])
def test_nothing_far_is_proposed(options: list[str], model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "--prompt", "zorp", "--model", model, *options]) == 2
    assert "did you mean" not in capsys.readouterr().err


def test_a_file_is_proposed_for_its_name_not_for_its_ending(tmp_path: Path) -> None:
    for name in ("zorp.safetensors", "trident.safetensors"):
        (tmp_path / name).touch()
    assert nearest_file(tmp_path / "zrop.safetensors") == f"; did you mean '{tmp_path / 'zorp.safetensors'}'?"
    assert nearest_file(tmp_path / "zorp.safetensor") == f"; did you mean '{tmp_path / 'zorp.safetensors'}'?"
    assert nearest_file(tmp_path / "ink.safetensors") == ""


def test_what_is_long_is_cut_in_messages() -> None:
    assert shortened("x" * 200) == repr("x" * 200)
    assert shortened("x" * 5000) == f"'{'x' * 99}… (5,000 characters)"
    assert shortened(10**5000) == "a number of thousands of digits"
    assert len(str(UnknownName("LoRA", "x" * 10**6, ["zorp"]))) < 300
