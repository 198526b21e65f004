"""`zoo profile`: measured once, kept by content, drawn; and the order of `cmlora` that it decides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from lora_zoo import profiles
from lora_zoo.catalog import HOME, Catalog
from lora_zoo.index.store import Store
from lora_zoo.library import Library
from pipelines.cli import main


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a LoRA that is in no catalogue: one that comes with the project, with another text in its head."""
    monkeypatch.setenv("MEDLEY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MEDLEY_ZOO", raising=False)
    monkeypatch.chdir(tmp_path)
    tensors = load_file(HOME / "files" / "loras" / "zorp.safetensors")
    save_file(tensors, tmp_path / "mine.safetensors", {"modelspec.trigger_phrase": "zorp"})
    return tmp_path / "mine.safetensors"


def test_a_file_is_measured_once_and_then_has_a_place(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = profiles.HOME.read_bytes()
    asked = ["render", "--prompt", "zorp in a striped vest", "--lora", mine.name, "--lora", "neon", "--dry-run"]
    assert main([*asked, "--method", "cmlora"]) == 2
    assert "was not measured; run `python app.py zoo profile mine.safetensors`" in capsys.readouterr().err
    assert main([*asked, "--method", "cmlora", "--set", "order=named"]) == 0
    capsys.readouterr()
    assert main(["zoo", "profile", mine.name, "--pictures", "1", "--plot", "p.png", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["profiles"]
    library = Library()
    assert library.profile(library.find(mine.name)) == tuple(found["profile"]) and len(found["profile"]) == 32
    assert 0.3 < found["frequency"] < 0.8 and profiles.HOME.read_bytes() == shipped
    with Image.open("p.png") as drawn:
        assert drawn.size[0] > 400
    assert main([*asked, "--method", "cmlora", "--json"]) == 0
    uses = json.loads(capsys.readouterr().out)["requests"][0]["adapters"]
    assert uses[0]["frequency"] == found["frequency"] and uses[1]["frequency"] is not None


def test_mistakes(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, told in ((["--plot", "p.jpg"], ".png"), (["zrop"], "'zorp'"), (["--model", "nowhere/x"], "nowhere")):
        assert main(["zoo", "profile", *options]) == 2
        assert told in capsys.readouterr().err


def test_all_that_is_shipped_is_measured() -> None:
    """Made again by `python app.py zoo profile` after a LoRA was trained anew."""
    known = profiles.load()
    assert {entry.sha256 for entry in Catalog.load().entries} == known.keys()
    assert all(len(rings) == 32 and max(rings) == 1.0 for rings in known.values())


def test_profiles_outlive_an_index_of_another_version(tmp_path: Path) -> None:
    Store(tmp_path / "zoo.sqlite").put_profile("a" * 64, (1.0, 0.5))
    store = Store(tmp_path / "zoo.sqlite")
    with store._open() as base:
        base.execute("PRAGMA user_version = 99")
    assert Store(tmp_path / "zoo.sqlite").profile("a" * 64) == (1.0, 0.5)
    assert Store(tmp_path / "zoo.sqlite").profile("b" * 64) is None


def test_a_profile_file_round_trip(tmp_path: Path) -> None:
    profiles.save({"b": (1.0, 0.25), "a": (1.0,)}, tmp_path / "p.json")
    assert profiles.load(tmp_path / "p.json") == {"a": (1.0,), "b": (1.0, 0.25)}
    assert profiles.load(tmp_path / "none.json") == {}
