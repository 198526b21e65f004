"""Who works on a batch: a process lives for as long as it holds its lock file, which the system frees at its death."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_FOLDER = ".workers"


class Owners:
    """The lock files of one batch folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / _FOLDER

    @contextmanager
    def enter(self) -> Iterator[str]:
        """Be alive under a name of one's own."""
        self._folder.mkdir(exist_ok=True)
        name = uuid.uuid4().hex
        path = self._folder / name
        lock = FileLock(path)
        lock.acquire()
        while not path.exists():  # another process tidied the file away before it was locked
            lock.release()
            lock.acquire()
        try:
            yield name
        finally:
            path.unlink(missing_ok=True)
            lock.release()
            for other in self._folder.iterdir():
                self.lives(other.name)

    def lives(self, name: str) -> bool:
        """Tell whether the process of this name still holds its lock; the file of a dead one is taken away."""
        path = self._folder / name
        if not path.exists():
            return False
        try:
            with FileLock(path, timeout=0):
                path.unlink(missing_ok=True)
        except Timeout:
            return True
        return False
