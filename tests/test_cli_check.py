"""The report before rendering, on the model and LoRAs that come with the project, and on files that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from lora_zoo.catalog import Catalog, models
from pipelines.cli import main
from tests.lora_zoo.index.folders import lora

ZORP = "zorp"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_two_loras_are_reported_in_words_numbers_and_a_picture(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    loras = ["--lora", ZORP, "--lora", "striped_vest:0.5"]
    assert main(["check", *loras, "--json", "--plot", "fights.png"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["usable"]
    assert [one["weight"] for one in report["loras"]] == [1.0, 0.5]
    for one in report["loras"]:
        assert one["fits"] and one["verdict"] == "made for tiny, as its layers tell"
        assert all(part["matched"] == part["total"] > 0 for part in one["fit"]["components"])
        assert all(0 < size["frobenius"] < 2 and 0 < size["spectral"] for size in one["sizes"])
    assert {one["block"] for one in report["conflicts"]} >= {"unet.down_blocks.0", "unet.mid_block"}
    assert all(0 <= one["overlap"] <= 1 and -1 <= one["cancelled"] <= 1 for one in report["conflicts"])
    with Image.open("fights.png") as page:
        assert page.format == "PNG"
        assert len(page.convert("RGB").getcolors(1 << 20) or []) > 10
    assert main(["check", *loras]) == 0
    told = capsys.readouterr().out
    assert "modules fit, lora, rank" in told
    assert "(Frobenius)" in told


def test_a_lora_beside_its_own_negative_cancels(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    zoo = Catalog.load()
    tensors = load_file(zoo.path(zoo.get(ZORP)))
    negative = {key: -value if "lora_up" in key else value for key, value in tensors.items()}
    save_file(negative, tmp_path / "proz.safetensors")
    assert main(["check", "--lora", ZORP, "--lora", "proz.safetensors:1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    for one in report["conflicts"]:
        assert one["overlap"] == pytest.approx(1.0, abs=1e-4)
        assert one["cancelled"] == pytest.approx(1.0, abs=1e-4)
        assert "fight" in one["told"]


def test_biases_are_sized_apart(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    zoo = Catalog.load()
    tensors = load_file(zoo.path(zoo.get(ZORP)))
    unet = next(one.path for one in models() if one.name == "tiny") / "unet" / "diffusion_pytorch_model.safetensors"
    bias = load_file(unet)["conv_in.bias"].float()
    tensors["lora_unet_conv_in.diff_b"] = torch.full_like(bias, 0.5)
    save_file(tensors, tmp_path / "biased.safetensors")
    assert main(["check", "--lora", "biased.safetensors", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["loras"]
    apart = next(size for size in one["sizes"] if size["component"] == "unet, biases and normalisation")
    assert (apart["layers"], apart["strongest"]) == (1, "conv_in.bias")
    assert apart["frobenius"] == pytest.approx(float(0.5 * len(bias) ** 0.5 / bias.norm()), rel=1e-2)


def test_what_does_not_fit_is_told_with_the_reason(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lora(tmp_path / "other.safetensors", 1)
    assert main(["check", "--lora", "other.safetensors", "--lora", ZORP]) == 2
    told = capsys.readouterr().out
    assert "cannot be used: made for sd15, as its layers tell; this model is tiny" in told
    assert "zorp:1  fits" in told


def test_what_is_not_finite_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    zoo = Catalog.load()
    tensors = load_file(zoo.path(zoo.get(ZORP)))
    bad = next(key for key in tensors if "lora_down" in key)
    tensors[bad] = torch.full_like(tensors[bad], float("nan"))
    save_file(tensors, tmp_path / "nan.safetensors")
    assert main(["check", "--lora", "nan.safetensors", "--json"]) == 2
    (one,) = json.loads(capsys.readouterr().out)["loras"]
    assert "finite" in one["error"]


def test_a_corrupt_file_is_a_row_with_its_reason(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "torn.safetensors").write_bytes(b"\x80\x02}q\x00.")
    (tmp_path / "half.safetensors").write_bytes(lora(tmp_path / "whole.safetensors", 1).read_bytes()[:-7])
    arguments = ["check", "--lora", "torn.safetensors:0.5", "--lora", ZORP, "--lora", "half.safetensors"]
    assert main([*arguments, "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert [bool(one["error"]) for one in report["loras"]] == [True, False, True]
    assert main(arguments) == 2
    told = capsys.readouterr().out
    assert "torn.safetensors:0.5  " in told and "a pickle, which can run code" in told
    assert "zorp:1  fits" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "--lora"),
        (("--lora", "zrop"), "'zorp'"),
        (("--lora", "zorp", "--plot", "x.jpg"), ".png"),
        (("--lora", "zorp", "--plot", "x.png"), "two LoRAs"),
        (("--lora", "zorp", "--lora", "zorp"), "once"),
    ],
)
def test_mistakes_are_told(arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *arguments]) == 2
    assert told in capsys.readouterr().err
