"""A picture made from files named by their paths tells none of these, and is made again where the files are found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from lora_zoo.catalog import HOME
from pipelines import images
from pipelines.cli import main
from tests.pipelines.test_painting import half, picture

MADE = Path("out/0001-merge-0.png")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """Make a picture of a model, a LoRA, a picture and a mask, all in a folder of one's own; stand in another."""
    monkeypatch.setenv("MEDLEY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MEDLEY_ZOO", raising=False)
    home = tmp_path / "ann"
    (tmp_path / "work").mkdir()
    (home / "loras").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    shutil.copytree(HOME / "files" / "tiny", home / "mine")
    tensors = load_file(HOME / "files" / "loras" / "bolt.safetensors")
    save_file(tensors, home / "loras" / "zorp.safetensors", {"modelspec.title": "in no catalogue"})
    picture().save(home / "given.png")
    half().save(home / "mask.png")
    command = ["render", "--prompt", "zorp", "--model", str(home / "mine"), "--steps", "1", "--out", "out"]
    loras = ["--lora", f"{home}/loras/zorp.safetensors:0.5:0.25"]
    begun = ["--init", f"{home}/given.png", "--mask", f"{home}/mask.png", "--strength", "1"]
    assert main([*command, *loras, *begun]) == 0
    capsys.readouterr()
    return home


def given(home: Path) -> list[str]:
    begun = ["--init", str(home / "given.png"), "--mask", str(home / "mask.png")]
    return ["--model", str(home / "mine"), "--zoo", str(home / "loras"), *begun]


def replay(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, Any, str]:
    code = main(["render", "--from", str(MADE), "--json", "--out", "again", *options])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else None, said.err


def test_the_file_tells_nothing_of_the_machine(home: Path) -> None:
    found = images.read_record(MADE)
    assert (found.model, found.adapters[0].name) == ("mine", "zorp.safetensors")
    assert found.start is not None and (found.start.image, found.start.mask) == ("given.png", "mask.png")
    assert str(home).encode() not in MADE.read_bytes() and b"ann/" not in MADE.read_bytes()


def test_it_is_made_again_of_what_is_given(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = images.read_record(MADE)
    code, said, _ = replay(capsys, *given(home))
    assert code == 0
    assert said["images"][0]["pixels_sha256"] == before.pixels_sha256
    again = images.read_record(Path(said["images"][0]["path"]))
    assert (again.model, again.model_sha256, again.start) == (before.model, before.model_sha256, before.start)
    assert (again.adapters[0].weight, again.adapters[0].text_encoder_weight) == (0.5, 0.25)


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--model", "the picture's model (sha256 {model}) is not here; give it with --model"),
        ("--zoo", "with sha256 {lora} is not here"),
        ("--init", "the sha256 of its pixels is {image}: give it with --init"),
        ("--mask", "the sha256 of its pixels is {mask}: give it with --mask"),
    ],
)
def test_what_is_missing_is_told_with_its_hash_and_how_to_give_it(
    option: str, told: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = images.read_record(MADE)
    assert record.start is not None
    hashes = {"model": record.model_sha256, "lora": record.adapters[0].sha256}
    hashes |= {"image": record.start.sha256, "mask": record.start.mask_sha256}
    all_of_it = given(home)
    place = all_of_it.index(option)
    code, said, error = replay(capsys, *all_of_it[:place], *all_of_it[place + 2 :])
    assert (code, said) == (2, None)
    assert told.format(**hashes) in error and option in error


def test_a_lora_of_the_same_name_is_not_taken_for_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another file bears its name here; the content asked for is found in a folder that is given, by its hash."""
    record = images.read_record(MADE)
    wanted = given(home)
    place = wanted.index("--zoo")
    shutil.copy(HOME / "files" / "loras" / "moon.safetensors", "zorp.safetensors")
    del wanted[place : place + 2]
    code, _, error = replay(capsys, *wanted)
    assert code == 2 and f"not {record.adapters[0].sha256}, which is not here" in error
    shutil.move(home / "loras" / "zorp.safetensors", home / "loras" / "other.safetensors")
    code, said, _ = replay(capsys, *wanted, "--zoo", str(home / "loras"))
    assert code == 0 and said["images"][0]["pixels_sha256"] == record.pixels_sha256


def test_another_model_is_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(home / "mine", "mine")
    Path("mine/unet/config.json").write_text(Path("mine/unet/config.json").read_text() + "\n")
    wanted = given(home)[2:]
    code, _, error = replay(capsys, *wanted)
    assert code == 2 and "model 'mine' here is not the one that made the picture" in error
    code, _, error = replay(capsys, *wanted, "--model", "mine", "--dry-run")
    assert code == 0 and "notice: model 'mine' is not the one that made the picture" in error
