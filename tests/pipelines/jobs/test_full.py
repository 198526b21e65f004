"""A disk that is full at any write, of pictures or of the ledger: told, nothing lost, the same files in the end."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, BinaryIO

import pytest

from pipelines.engine import Engine
from pipelines.jobs import worker
from pipelines.jobs.base import FILE
from pipelines.jobs.ledger import Ledger
from pipelines.jobs.states import State
from tests.pipelines.jobs.folders import child, requests, start, tree

_JOBS = 40
#: What touches the disk for a picture: a file is made, written, forced there, put in place, and its name forced there.
_ACTS = ((tempfile, "mkstemp"), (os, "fdopen"), (os, "fsync"), (os, "replace"))
_PER_PICTURE = 5  # of these: the file is forced there, and its name


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, engine: Engine, small_folder: Path) -> Path:
    """A batch that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    start(folder, engine, requests(str(small_folder), _JOBS))
    worker.work(folder, engine, lambda _: None)
    return folder


class Half:
    """An open file that takes half of what is written to it; then the disk is full."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __enter__(self) -> Half:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        self._file.write(data[: len(data) // 2])
        self._file.flush()
        raise OSError(errno.ENOSPC, "No space left on device")


def fill(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Let the n-th act find the disk full."""
    acts: Iterator[int] = iter(range(1 << 30))

    def full(real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def act(*given: Any, **named: Any) -> Any:
            if not _writes_a_picture() or next(acts) != at:
                return real(*given, **named)
            if name == "fdopen":
                return Half(real(*given, **named))
            raise OSError(errno.ENOSPC, "No space left on device")

        return act

    for home, name in _ACTS:
        monkeypatch.setattr(home, name, full(getattr(home, name), name))


def _writes_a_picture() -> bool:
    """Return whether the act under way is a picture's: others write elsewhere, or read."""
    frame, names = sys._getframe(2), list[str]()  # noqa: SLF001
    while frame is not None and len(names) < 6:
        names.append(frame.f_globals["__name__"])
        frame = frame.f_back
    return names[0] == "lora_zoo.storage.atomic" and "pipelines.jobs.worker" in names


def check(at: int, folder: Path, engine: Engine, asked: Path, whole: Path) -> None:
    start(folder, engine, requests(str(asked), _JOBS))
    with pytest.MonkeyPatch.context() as patch:
        fill(patch, at)
        with pytest.raises(OSError, match="No space left"):
            worker.work(folder, engine, lambda _: None)
    assert not list(folder.glob(".*.part"))
    ledger = Ledger(folder)
    assert not ledger.counts()[State.RUNNING]
    ledger.close()
    worker.work(folder, engine, lambda _: None)
    assert tree(folder) == tree(whole)


def _instants(count: int) -> list[int]:
    """Return acts of the batch."""
    return sorted(Random("full").sample(range(_PER_PICTURE * _JOBS), count))


def _rooms(count: int) -> list[int]:
    """Return sizes in KB that the ledger's log grows beyond in such a batch."""
    return sorted(Random("rooms").sample(range(2, 150), count))


@pytest.mark.sampled(1)
@pytest.mark.parametrize("at", [*_instants(1), _PER_PICTURE * 7 + 1])  # the last writes half of a file
def test_a_full_disk_loses_nothing(at: int, tmp_path: Path, engine: Engine, small_folder: Path, whole: Path) -> None:
    check(at, tmp_path, engine, small_folder, whole)


@pytest.mark.slow
@pytest.mark.parametrize("at", _instants(50))
def test_a_disk_full_at_fifty_writes_of_pictures_loses_nothing(
    at: int, tmp_path: Path, engine: Engine, small_folder: Path, whole: Path
) -> None:
    check(at, tmp_path, engine, small_folder, whole)


@pytest.mark.parametrize("room", [60, *(pytest.param(room, marks=pytest.mark.slow) for room in _rooms(25))])
def test_no_room_for_the_ledger_loses_nothing(
    room: int, tmp_path: Path, engine: Engine, small_folder: Path, whole: Path
) -> None:
    """The system refuses to let any file grow beyond a size: what grows is the ledger's log."""
    resource = pytest.importorskip("resource")
    start(tmp_path, engine, requests(str(small_folder), _JOBS))
    most = (tmp_path / FILE).stat().st_size + room * 1024

    def act() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        try:
            worker.work(tmp_path, engine, lambda _: None)
        except OSError as error:
            os._exit(7 if "cannot be written" in str(error) else 8)

    assert os.waitstatus_to_exitcode(child(act)) == 7
    worker.work(tmp_path, engine, lambda _: None)
    assert tree(tmp_path) == tree(whole)


def test_a_ledger_that_could_not_be_written_can_be_used_again(
    tmp_path: Path, engine: Engine, small_folder: Path
) -> None:
    start(tmp_path, engine, requests(str(small_folder), 3))
    ledger = Ledger(tmp_path)
    pages = sqlite3.connect(tmp_path / FILE).execute("PRAGMA page_count").fetchone()[0]
    ledger._db.execute(f"PRAGMA max_page_count = {pages}")  # noqa: SLF001  the nearest thing to a full disk
    with pytest.raises(OSError, match="cannot be written: database or disk is full"):
        ledger.fail(1, "x" * 100_000)
    ledger.fail(1, "short")
    assert ledger.counts()[State.FAILED] == 1
    ledger.close()
