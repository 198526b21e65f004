"""How much strangers may fill of the disk: bounds for what they send, and what is cleared away."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

INCOMING = "incoming"  # in the data folder: what gradio receives, until the event is over that it was sent for
_GIGABYTE = 1 << 30
_LEAST = 64 << 10  # bytes that a file counts as, however small it is: folders of millions are slow, and inodes end
_STALE = 900.0  # seconds after which nothing waits for what was received
_UNUSED = 24 * 3600.0  # seconds after which a picture to begin with is gone that no job has named


@dataclass(frozen=True)
class Bounds:
    """Bytes that the folders of a server may hold together; what would be more is refused."""

    incoming: int = 4 * _GIGABYTE
    held: int = 4 * _GIGABYTE  # pictures to begin with
    loras: int = 64 * _GIGABYTE  # that were sent or made here


BOUNDS = Bounds()


class Incoming:
    """The folder of what is being received."""

    def __init__(self, folder: Path, most: int = BOUNDS.incoming) -> None:
        """Begin with an empty folder: what an earlier server received, nobody waits for."""
        self.folder, self._most = folder, most
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)

    def has_room(self, size: int) -> bool:
        """Whether so many bytes more can be received."""
        if held(self.folder) + size <= self._most:
            return True
        self.sweep()
        return held(self.folder) + size <= self._most

    def sweep(self) -> None:
        """Clear away what nobody waits for any more, and the folders that are empty."""
        _clear(self.folder, time.time() - _STALE, ())
        for folder in [path for path in self.folder.iterdir() if path.is_dir()]:
            try:
                folder.rmdir()
            except OSError:
                continue  # it is not empty


def held(folder: Path) -> int:
    """Return the bytes that a folder's files, and those below it, count as."""
    return sum(max(found.st_size, _LEAST) for _, found in _files(folder))


def clear_unnamed(folder: Path, named: Collection[str]) -> None:
    """Clear away files that are old and whose names, without endings, are not among those given."""
    _clear(folder, time.time() - _UNUSED, named)


def _clear(folder: Path, before: float, kept: Collection[str]) -> None:
    for path, found in _files(folder):
        if found.st_mtime < before and path.stem not in kept:
            path.unlink(missing_ok=True)
            log.info("cleared away %s", path.name)


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in folder.rglob("*"):
        try:
            found = path.lstat()
        except OSError:
            continue  # gone meanwhile
        if not path.is_dir():
            yield path, found
