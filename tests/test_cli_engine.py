"""How a model is run and where LoRAs are: options of every command that loads one, and what they reach."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest
import torch
import yaml

from pipelines import images
from pipelines.cli import main
from pipelines.cli_engine import EngineFlags
from pipelines.engine import Engine
from pipelines.model import LoadedModel
from pipelines.runtime import Runtime
from tests.adapters import five, save_plain
from tests.stand_ins import model_without_weights, two_loras

COMMANDS = {
    "render": ["render", "--prompt", "x"],
    "merge": ["merge", "zorp", "trident", "--method", "ssr", "-o", "x.safetensors"],
    "profile": ["zoo", "profile", "zorp"],
    "eval run": ["eval", "run", "duet", "--methods", "merge", "--out", "x"],
    "eval benchmark": ["eval", "benchmark", "--out", "x", "--docs", "docs"],
    "ui": ["ui"],
}
WRONG = {
    "--dtype": ("float61", "'float16'"),
    "--attention": ("eagr", "'eager'"),
    "--offload": ("part", "'parts'"),
}


@pytest.fixture(autouse=True)
def _commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_module("app")  # adds the commands of other packages
    monkeypatch.setenv("MEDLEY_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("option", WRONG)
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_wrong_choice_is_told_first(
    command: list[str], option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    two_loras(tmp_path, monkeypatch)
    value, near = WRONG[option]
    assert main([*command, option, value]) == 2
    said = capsys.readouterr().err
    assert f"unknown {option[2:]} '{value}'; did you mean {near}?" in said
    assert list(Path().iterdir()) == []


OPTIONS = ["--dtype", "bfloat16", "--attention", "eager", "--offload", "parts", "--vae-tiling"]


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_the_model_is_run_as_typed(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    two_loras(tmp_path, monkeypatch)
    seen: list[Runtime | None] = []

    def made(self: Engine, *_: object, runtime: Runtime | None = None, **__: object) -> None:
        seen.append(runtime)
        raise FileNotFoundError("far enough")

    monkeypatch.setattr(Engine, "__init__", made)
    assert main([*command, *OPTIONS]) == 1
    assert "far enough" in capsys.readouterr().err
    assert seen == [Runtime("bfloat16", "eager", "parts", True)]


def test_a_merge_that_runs_no_model_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    two_loras(tmp_path, monkeypatch)
    command = ["merge", "zorp", "trident", "-o", "x.safetensors", "--model", model_without_weights(tmp_path / "model")]
    assert main([*command, "--dtype", "bfloat16"]) == 2
    assert "'cat' runs none" in capsys.readouterr().err
    assert main([*command, "--stored-dtype", "float61"]) == 2
    assert "did you mean 'float16'" in capsys.readouterr().err


def test_flags_pass_to_other_processes(tmp_path: Path) -> None:
    import pickle

    flags = EngineFlags((tmp_path,), Runtime("bfloat16"))
    make = pickle.loads(pickle.dumps(flags.engine))
    assert make.__self__ == flags and make.__func__ is EngineFlags.engine


@pytest.fixture
def suite(tmp_path: Path, small: LoadedModel, small_folder: Path) -> Path:
    """A suite of one set, whose LoRAs are known by names of a folder only."""
    (tmp_path / "loras").mkdir()
    names = ("cat", "mat")
    for name, adapter in zip(names, five(small.layout)[1:], strict=False):
        save_plain(adapter, tmp_path / "loras" / f"{name}.safetensors")
    members = {name: {"lora": name, "triggers": [name], "weight": 0.8} for name in names}
    settings = {"model": str(small_folder), "num_inference_steps": 1}
    content = {"name": "mine", "settings": settings, "members": members, "sets": [{"members": list(names)}]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "mine.yaml"


def test_an_evaluation_takes_loras_of_a_folder_and_a_precision(
    suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["eval", "run", str(suite), "--methods", "merge", "--metrics", "cost", "--out", str(out)]
    zoo = ["--zoo", str(tmp_path / "loras")]
    assert main(command) == 2
    assert "'cat'" in capsys.readouterr().err
    assert main([*command, *zoo, "--dtype", "bfloat16"]) == 0
    (made,) = (out / "pictures").glob("*.png")
    assert images.read_record(made).dtype == "bfloat16"
    capsys.readouterr()
    assert main([*command, *zoo]) == 2
    assert "was begun with dtype bfloat16, not auto" in capsys.readouterr().err
    assert main(["eval", "report", str(out), *zoo, "--page", str(tmp_path / "page.html")]) == 0


def test_a_fit_is_computed_in_the_precision_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.safetensors"
    command = ["merge", "zorp", "moon", "--method", "ssr", "--set", "steps=1", "-o", str(out), "--json"]
    assert main([*command, "--dtype", "float32", "--stored-dtype", "float32"]) == 0
    from safetensors.torch import load_file

    assert {tensor.dtype for tensor in load_file(out).values()} == {torch.float32}
    assert json.loads(capsys.readouterr().out)["path"] == str(out)
