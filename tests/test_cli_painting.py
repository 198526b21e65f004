"""The command line: pictures to begin with, second passes, and what is said of single LoRAs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

from pipelines.cli import main
from tests.pipelines.test_painting import half, picture

PLAIN = ["render", "--prompt", "zorp in a meadow", "--lora", "zorp", "--steps", "2"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture().save(tmp_path / "given.png")
    half().save(tmp_path / "mask.png")


def said(capsys: pytest.CaptureFixture[str], *command: str) -> Any:
    assert main([*command, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_picture_made_from_one_is_made_again_from_its_record(capsys: pytest.CaptureFixture[str]) -> None:
    begun = [*PLAIN, "--init", "given.png", "--mask", "mask.png", "--strength", "1"]
    (first,) = said(capsys, *begun)["images"]
    (again,) = said(capsys, "render", "--from", first["path"])["images"]
    assert again["pixels_sha256"] == first["pixels_sha256"]
    assert again["unet_passes"] == 2
    (asked,) = said(capsys, "render", "--from", first["path"], "--strength", "0.5", "--dry-run")["requests"]
    assert (asked["start"]["strength"], asked["start"]["mask"]) == (0.5, "mask.png")
    (asked,) = said(capsys, "render", "--from", first["path"], "--init", "given.png", "--dry-run")["requests"]
    assert (asked["start"]["strength"], asked["start"]["mask"]) == (0.75, None)


def test_a_second_pass(capsys: pytest.CaptureFixture[str]) -> None:
    command = [*PLAIN, "--hires", "1.5", "--hires-strength", "0.5", "--hires-upscaler", "latent", "--size", "32x32"]
    cost = said(capsys, *command, "--dry-run")
    assert (cost["unet_passes"], cost["requests"][0]["hires"]["scale"]) == (3, 1.5)
    (made,) = said(capsys, *command)["images"]
    (again,) = said(capsys, "render", "--from", made["path"])["images"]
    assert again["pixels_sha256"] == made["pixels_sha256"]
    (asked,) = said(capsys, "render", "--from", made["path"], "--hires-steps", "8", "--dry-run")["requests"]
    assert (asked["hires"]["scale"], asked["hires"]["num_inference_steps"]) == (1.5, 8)


def test_what_is_said_of_loras_reaches_those_in_tags(capsys: pytest.CaptureFixture[str]) -> None:
    prompt = "zorp on a hill <lora:zorp:0.8> <lora:moon:0.5>"
    own = ["--words", "zorp=zorp,hill", "--blocks", "moon=MID:0.5", "--during", "moon=1-", "--during", "zorp=0@0,1@1"]
    (asked,) = said(capsys, "render", "--prompt", prompt, *own, "--dry-run")["requests"]
    zorp, moon = asked["adapters"]
    assert (zorp["words"], zorp["blocks"], zorp["schedule"]["curve"]) == (["zorp", "hill"], None, [[0, 0], [1, 1]])
    assert (moon["weight"], moon["blocks"]["MID"], moon["blocks"]["BASE"], moon["schedule"]["start"]) == (
        0.5,
        0.5,
        1,
        1,
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--mask", "mask.png"], "--init"),
        (["--strength", "0.5"], "--init"),
        (["--hires-steps", "5"], "--hires"),
        (["--init", "gone.png"], "gone.png"),
        (["--init", "given.png", "--strength", "2"], "strength"),
        (["--hires", "9"], "hires.scale"),
        (["--hires", "2", "--hires-upscaler", "best"], "upscaler"),
        (["--blocks", "zorp=1,2"], "takes"),
        (["--blocks", "zrop=ALL"], "'zorp'"),
        (["--during", "zorp=9-"], "acts in none"),
        (["--during", "zorp=now"], "START-STOP"),
    ],
)
def test_mistakes_are_told(options: list[str], told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([*PLAIN, *options]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()


def test_what_a_method_found_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Masks come as files that `--region` takes; a method that finds none says so, and a file is no folder for them."""
    both = ["--prompt", "zorp the one-eyed alien and krag the horned brute", "--lora", "zorp", "--lora", "krag"]
    command = ["render", *both, "--steps", "2", "--size", "32x64", "--findings", "found"]
    (made,) = said(capsys, *command, "--method", "freefuse")["images"]
    masks = [Image.open(path) for path in made["findings"].values()]
    assert list(made["findings"]) == ["mask of zorp", "mask of krag"]
    assert [Path(path).name for path in made["findings"].values()] == [
        f"0001-freefuse-0-{number}-mask-of-{name}.png" for number, name in enumerate(("zorp", "krag"), start=1)
    ]
    assert all(one.size == (32, 64) and one.mode == "L" for one in masks)
    assert ImageChops.add(masks[0], masks[1]).getextrema() == (255, 255)
    regions = [
        f"--region={name}={path}" for name, path in zip(("zorp", "krag"), made["findings"].values(), strict=True)
    ]
    assert said(capsys, *command, "--method", "regional", *regions, "--dry-run")["unet_passes"] == 2
    assert main(command) == 0
    assert "'merge' finds nothing" in capsys.readouterr().err
    assert main([*command, "--findings", "given.png"]) == 2
    assert "--findings given.png" in capsys.readouterr().err
