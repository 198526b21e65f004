"""Where results go is tried before any work, and nothing of the trial stays."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

import pytest

from composer.errors import BadRequest
from lora_zoo.errors import ZooError
from pipelines.cli import main
from pipelines.places import check_file, check_folder


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("kept")
    Path("dangling").symlink_to("nowhere")
    Path("folder").mkdir()
    Path("linked").symlink_to("folder")


BAD = {
    "a file": ("file", "is a file, not a folder"),
    "below a file": ("file/sub", "is a file, not a folder"),
    "a link to nothing": ("dangling", "is a link to nothing"),
    "below a link to nothing": ("dangling/sub", "is a link to nothing"),
    "a name too long": ("x" * 300, "File name too long"),
    "a name too long below others": (f"new/{'x' * 300}/more", "File name too long"),
    "names too long together": ("/".join(["folder", *["x" * 200] * 30]), "File name too long"),
}


@pytest.mark.parametrize(("name", "told"), BAD.values(), ids=BAD)
def test_a_folder_that_cannot_be_written_to_is_refused(name: str, told: str) -> None:
    with pytest.raises(BadRequest, match=f"^--out .*{told}"):
        check_folder(Path(name))
    with pytest.raises(BadRequest, match=told):
        check_file(Path(name) / "a.png", "--plot")


@pytest.mark.skipif(sys.platform != "linux", reason="a file system of Linux")
def test_a_folder_of_the_system_is_refused() -> None:
    for name in ("/proc/medley", "/proc/1/fd", "/sys/medley"):
        with pytest.raises(ZooError, match="cannot be written to"):
            check_folder(Path(name))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused() -> None:
    Path("folder").chmod(0o500)
    with pytest.raises(BadRequest, match="Permission denied"):
        check_folder(Path("folder/new"))


@pytest.mark.parametrize("name", ["folder", "linked", "new", "new/below", "linked/below", "."])
def test_a_folder_that_can_be_written_to_is_left_as_it_is(name: str) -> None:
    before = sorted(Path().rglob("*"))
    check_folder(Path(name))
    check_file(Path(name) / "a.png", "--plot")
    assert sorted(Path().rglob("*")) == before


def test_a_file_in_the_place_of_another_thing_is_refused() -> None:
    os.mkfifo("pipe")
    for name, told in (("folder", "a folder"), ("dangling", "a link to nothing"), ("pipe", "no regular file")):
        with pytest.raises(BadRequest, match=f"--plot {name}: this is {told}"):
            check_file(Path(name), "--plot")
    check_file(Path("file"), "--plot")
    assert Path("file").read_text() == "kept"


PLOT = "dangling/x.png"
COMMANDS = {
    "render": ["render", "--prompt", "x", "--out", "dangling"],
    "findings": ["render", "--prompt", "x", "--findings", "dangling"],
    "demo": ["demo", "--out", "dangling"],
    "merge": ["merge", "zorp", "moon", "-o", "dangling/x.safetensors"],
    "merge into a model": ["merge", "zorp", "--into-checkpoint", "dangling/x"],
    "check": ["check", "--lora", "zorp", "--lora", "moon", "--plot", PLOT],
    "profile": ["zoo", "profile", "zorp", "--plot", PLOT],
    "eval run": ["eval", "run", "duet", "--methods", "merge", "--out", "dangling"],
    "eval benchmark": ["eval", "benchmark", "--out", "dangling"],
    "eval benchmark docs": ["eval", "benchmark", "--docs", "dangling"],
    "eval report": ["eval", "report", "folder", "--page", PLOT],
    "ui": ["ui", "--data", "dangling"],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_command_that_writes_finds_it_first(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import_module("app")  # adds the commands of other packages

    def no_model(*_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("pipelines.model.LoadedModel.load", no_model)
    monkeypatch.setattr("pipelines.engine.Engine.model", no_model)
    before = sorted(Path().rglob("*"))
    assert main(command) == 2
    assert "is a link to nothing" in capsys.readouterr().err
    assert sorted(Path().rglob("*")) == before
