"""From a command to pictures on the disk, on a minute model with random weights."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pipelines import demo, images
from pipelines.cli import main
from pipelines.engine import Engine
from pipelines.model import LoadedModel

LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture
def lora(small: LoadedModel, tmp_path: Path) -> Path:
    """Write a LoRA file for one layer of the small model."""
    width_out, width_in = small.layout["unet"][LAYER]
    tensors = {
        f"unet.{LAYER}.lora_A.weight": torch.ones(2, width_in),
        f"unet.{LAYER}.lora_B.weight": torch.ones(width_out, 2),
    }
    save_file(tensors, tmp_path / "ones.safetensors")
    return tmp_path / "ones.safetensors"


def test_render_writes_pictures_that_can_be_repeated(
    small_folder: Path,
    lora: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MEDLEY_CACHE", str(tmp_path / "cache"))
    asked = ["render", "--prompt", "a cat", "--model", str(small_folder), "--steps", "2", "--lora", f"{lora}:0.5"]
    assert main([*asked, "--count", "2", "--seed", "5", "--out", str(tmp_path / "new" / "out"), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["images"]
    assert (first["seed"], second["seed"], first["unet_passes"]) == (5, 6, 2)
    assert images.read_record(Path(first["path"])).adapters[0].weight == 0.5
    assert sorted(one.name for one in Path(first["path"]).parent.glob("*.png")) == [
        "0001-merge-5.png",
        "0002-merge-6.png",
    ]

    given = ["--model", str(small_folder), "--zoo", str(tmp_path)]
    assert main(["render", "--from", second["path"], *given, "--out", str(tmp_path), "--json"]) == 0
    (again,) = json.loads(capsys.readouterr().out)["images"]
    ours, theirs = (Image.open(one["path"]).convert("RGB").tobytes() for one in (again, second))
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) <= 1  # it was rendered beside another one


def test_a_lora_that_does_not_fit_writes_nothing(
    small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stray = {"unet.nowhere.lora_A.weight": torch.ones(2, 8), "unet.nowhere.lora_B.weight": torch.ones(8, 2)}
    save_file(stray, tmp_path / "stray.safetensors")
    asked = ["render", "--prompt", "x", "--model", str(small_folder), "--lora", str(tmp_path / "stray.safetensors")]
    assert main([*asked, "--out", str(tmp_path / "out")]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_demo_lays_four_pictures_side_by_side(
    engine: Engine, small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = demo.Scene("a cat on a cat", ("lora0", "lora1", "lora2"), str(small_folder))
    sheet = demo.run(tmp_path / "demo", scene, engine)
    written = sorted(one.name for one in sheet.parent.iterdir())
    assert written == ["composite.png", "merge.png", "prompt-only.png", "sheet.png", "switch.png"]
    records = {name: images.read_record(sheet.with_name(f"{name}.png")) for name in ("merge", "switch", "composite")}
    steps = records["merge"].num_inference_steps or 0
    assert [one.unet_passes for one in records.values()] == [steps, steps, 3 * steps]
    told = capsys.readouterr().out
    assert all(f"{one.seconds:.2f} s, {one.unet_passes} UNet passes" in told for one in records.values())
    assert str(sheet) in told
