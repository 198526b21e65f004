"""The command line with pictures of other tools: `inspect` and `render --from`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_zoo.catalog import Catalog, entry_for
from pipelines import images
from pipelines.cli import main
from pipelines.images import Rendering
from tests.composer.test_request import record
from tests.pipelines.metadata.samples import PIXELS, chunks, png
from tests.pipelines.metadata.test_matching import lora
from tests.stand_ins import model_without_weights


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Stand in an empty folder with a catalogue of one LoRA; return a model folder that holds configurations only."""
    catalogue = Catalog(tmp_path, (entry_for(lora(tmp_path, "salt")),))
    monkeypatch.setattr(Catalog, "load", lambda *_: catalogue)
    monkeypatch.chdir(tmp_path)
    return model_without_weights(tmp_path / "model")


@pytest.mark.parametrize("tool", ["a1111", "fooocus", "invokeai", "comfyui", "workflow"])
def test_inspect_shows_what_was_found(tool: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(png(tmp_path / "a.png", **chunks(tool)))
    assert main(["inspect", path, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["picture"]
    assert shown["loras"][0]["name"] == "salt"
    assert shown.keys() >= {"tool", "prompt", "scheduler", "seed", "model", "unresolved"}
    assert main(["inspect", path]) == 0
    assert "salt" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif"])
def test_inspect_reads_every_format_of_ours(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"a.{name}"
    images.save(Rendering(PIXELS, record(prompt="\x1b[31mred")), path)
    assert main(["inspect", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["picture"]["method"] == "switch"
    assert main(["inspect", str(path)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_picture_of_another_tool_is_a_request(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(png(tmp_path / "a.png", **chunks("invokeai")))
    command = ["render", "--from", path, "--dry-run", "--json"]
    assert main(command) == 2
    assert "'harbour'" in capsys.readouterr().err
    assert main([*command, "--model", model]) == 0
    said = capsys.readouterr()
    (asked,) = json.loads(said.out)["requests"]
    assert (asked["prompt"], asked["seed"], asked["scheduler"]) == ("a lighthouse", 99, "dpmpp_2m_karras")
    assert [(use["name"], use["weight"]) for use in asked["adapters"]] == [("salt", 0.75)]
    assert "not taken from the picture: controlnets" in said.err
    assert main([*command, "--model", model, "--seed", "3", "--prompt", "fog"]) == 0
    (asked,) = json.loads(capsys.readouterr().out)["requests"]
    assert (asked["prompt"], asked["seed"]) == ("fog", 3)


def test_blocks_steps_and_a_second_pass_of_a_picture_are_asked_for(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        "a lighthouse <lora:salt:0.5:lbw=INALL:step=0-5>\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, "
        "Size: 64x64, Model: m, Denoising strength: 0.5, Hires upscale: 2, Hires steps: 10, Hires upscaler: ESRGAN"
    )
    path = str(png(tmp_path / "a.png", parameters=text))
    command = ["render", "--from", path, "--model", model, "--dry-run", "--json"]
    assert main(command) == 0
    said = capsys.readouterr()
    (asked,) = json.loads(said.out)["requests"]
    (use,) = asked["adapters"]
    assert (use["blocks"]["IN00"], use["blocks"]["MID"], use["schedule"]["stop"]) == (1.0, 0.0, 5.0)
    assert (asked["hires"]["scale"], asked["hires"]["num_inference_steps"]) == (2.0, 20)
    assert json.loads(said.out)["unet_passes"] == 20 + 10
    assert "ESRGAN" in said.err
    assert "LoRA 'salt'" not in said.err
    assert main([*command, "--hires", "1.5", "--blocks", "salt=MID:0.5"]) == 0


def test_a_lora_that_is_not_here_is_an_error_unless_named(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(png(tmp_path / "a.png", **chunks("comfyui")))
    command = ["render", "--from", path, "--model", model, "--dry-run"]
    assert main(command) == 2
    assert "'foam'" in capsys.readouterr().err
    assert main([*command, "--lora", "salt:0.7"]) == 0


def test_malformed_metadata_is_a_mistake_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(png(tmp_path / "a.png", prompt="{" * 1000))
    for command in (["inspect", path], ["render", "--from", path]):
        assert main(command) == 2
        said = capsys.readouterr()
        assert "nested" in said.err
        assert "Traceback" not in said.err


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_an_unknown_format_is_told(options: list[str], model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "--prompt", "x", "--model", model, "--format", "jpg2", *options]) == 2
    assert "jpeg" in capsys.readouterr().err
