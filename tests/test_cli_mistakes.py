"""What the command line refuses, and that nothing is written then."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

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
    "undesired strength out of range": (["--undesired-strength", "2"], "undesired_strength"),
    "unknown option": (["--promt", "x"], "--prompt"),
}


@pytest.mark.parametrize(("options", "told"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_and_nothing_is_written(
    options: list[str], told: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
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
    ],
)
def test_other_mistakes_are_told_too(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert told in said.err
    assert said.out == ""
