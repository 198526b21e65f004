"""What strangers may fill of the disk, and what is cleared away."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from composer.request import RenderRequest, Start
from tests.ui.test_held import png
from ui import room, uploads
from ui.errors import TooMuch
from ui.held import Held
from ui.history import Asked, History
from ui.room import Bounds, Incoming


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_LEAST", 0)


def aged(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_what_is_received_has_a_bound_and_is_cleared_away_when_nobody_waits(tmp_path: Path) -> None:
    folder = tmp_path / "incoming"
    folder.mkdir()
    (folder / "of an earlier server").write_bytes(bytes(100))
    incoming = Incoming(folder, 1000)
    assert list(folder.iterdir()) == []
    (folder / "a").mkdir()
    (folder / "a" / "new").write_bytes(bytes(600))
    assert incoming.has_room(400) and not incoming.has_room(401)
    aged(folder / "a" / "new", 3600)
    assert incoming.has_room(401)  # for which the old one went
    incoming.sweep()
    assert list(folder.iterdir()) == []


def test_a_picture_that_no_job_names_is_gone_after_a_day(tmp_path: Path) -> None:
    held, history = Held(tmp_path / "held", 1 << 20), History(tmp_path)
    named, unnamed, new = held.take(png()), held.take(png((32, 32))), held.take(png((16, 16)))
    history.add(Asked((RenderRequest(prompt="a", start=Start(image=named)),)))
    for name in (named, unnamed):
        aged(tmp_path / "held" / f"{name.removeprefix('held:')}.png", 2 * 24 * 3600)
    held.clear(history.held)
    left = {f"held:{path.stem}" for path in (tmp_path / "held").iterdir()}
    assert left == {named, new}
    history.close()


def test_pictures_and_loras_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "BOUNDS", Bounds(held=200, loras=100))
    held = Held(tmp_path / "held", 1 << 20)
    with pytest.raises(TooMuch, match="no room for more pictures"):
        held.take(png())
    assert list((tmp_path / "held").iterdir()) == []
    with pytest.raises(TooMuch, match="no room for another"):
        uploads.place(tmp_path / "loras", "mine", 101)
    assert uploads.place(tmp_path / "loras", "mine", 100).name == "mine.safetensors"


def test_small_files_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_LEAST", 100)
    for number in range(5):
        (tmp_path / str(number)).touch()
    assert room.held(tmp_path) == 500
