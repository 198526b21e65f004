"""Numbers of pictures in one folder, taken by several at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lora_zoo.errors import BadFile
from pipelines.numbered import Numbered

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from pathlib import Path
from pipelines.numbered import Numbered
folder = Numbered(Path(sys.argv[1]))
for _ in range(40):
    folder.write(sys.argv[2].encode(), "merge-0.png")
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.png"))


def test_processes_share_a_folder_and_lose_nothing(tmp_path: Path) -> None:
    """They all ask for the same rest of the name, so every clash would be an overwritten file."""
    made = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(k)], cwd=ROOT) for k in range(3)]
    assert [one.wait() for one in made] == [0, 0, 0]
    assert names(tmp_path) == [f"{number:04d}-merge-0.png" for number in range(1, 121)]
    told = [path.read_text() for path in tmp_path.glob("*.png")]
    assert [told.count(str(k)) for k in range(3)] == [40, 40, 40]


def test_numbers_go_on_from_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "0007-switch-3.jpeg").write_bytes(b"old")
    (tmp_path / "notes-9.png").write_bytes(b"not numbered")
    assert Numbered(tmp_path).write(b"new", "merge-0.png").name == "0008-merge-0.png"
    (tmp_path / "0020-merge-1.png").write_bytes(b"copied here")
    assert Numbered(tmp_path).write(b"new", "merge-0.png").name == "0021-merge-0.png"


def test_two_that_began_together_take_turns(tmp_path: Path) -> None:
    one, other = Numbered(tmp_path), Numbered(tmp_path)
    taken = [numbered.write(b"", "merge-0.png").name[:4] for numbered in (one, other, other, one)]
    assert taken == ["0001", "0002", "0003", "0004"]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_is_there_is_never_overwritten(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Numbered(tmp_path)
    assert folder.write(b"", "merge-0.png").name == "0001-merge-0.png"
    (tmp_path / "0002-merge-0.png").write_bytes(b"foreign")
    if not links:

        def refused(*_: object) -> None:
            raise PermissionError("no links on this file system")

        monkeypatch.setattr("os.link", refused)
    assert folder.write(b"new", "merge-0.png").name == "0003-merge-0.png"
    assert (tmp_path / "0002-merge-0.png").read_bytes() == b"foreign"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".numbers", *names(tmp_path)]


def test_no_folder_is_listed_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Numbered(tmp_path)
    folder.write(b"", "a.png")

    def listed(*_: object) -> None:
        raise AssertionError("the folder was listed")

    for name in ("os.scandir", "os.listdir"):
        monkeypatch.setattr(name, listed)
    assert folder.write(b"", "a.png").name == "0002-a.png"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_counter_that_is_no_file_of_its_folder_is_refused(kind: str, tmp_path: Path) -> None:
    folder, other = tmp_path / "outputs", tmp_path / "other"
    folder.mkdir()
    other.write_bytes(b"mine")
    place = folder / ".numbers"
    {"link": lambda: place.symlink_to(other), "pipe": lambda: os.mkfifo(place), "folder": place.mkdir}[kind]()
    with pytest.raises(BadFile, match="leads out of its folder" if kind == "link" else "not a regular file"):
        Numbered(folder).write(b"new", "merge-0.png")
    assert other.read_bytes() == b"mine" and names(folder) == []
