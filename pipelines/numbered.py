"""Numbered files in one folder, written by any number of processes: no number is taken twice, no file overwritten.

The last number is the length of a small file beside them, to which each taker appends a byte: the system does that in
one act, so no folder has to be listed for a picture, and nobody waits for a lock.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from lora_zoo.foreign import files
from lora_zoo.storage import atomic

_COUNTER = ".numbers"
_NUMBERED = re.compile(r"(\d{1,9})-.*\.(?:png|jpeg|webp|avif)")
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class Numbered:
    """The numbered pictures of a folder, which is made with the first of them if it is not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._counted = False  # whether the counter knows what was there before

    def write(self, data: bytes, rest: str) -> Path:
        """Write a file whole under the next number and the rest of its name, and return its path."""
        if not self._counted:
            self._count()
        while True:
            path = self._folder / f"{self._take(1):04d}-{rest}"
            try:
                atomic.write_new(data, path)
            except FileExistsError:
                continue  # put here by something that does not count
            return path

    def _count(self) -> None:
        """Let the counter go on behind pictures that came here by other ways."""
        self._folder.mkdir(parents=True, exist_ok=True)
        matches = (_NUMBERED.fullmatch(entry.name) for entry in os.scandir(self._folder))
        last = max((int(match[1]) for match in matches if match), default=0)
        counter = self._folder / _COUNTER
        missing = last - (counter.stat().st_size if counter.exists() else 0)
        if missing > 0:
            self._take(missing)
        self._counted = True

    def _take(self, count: int) -> int:
        """Take numbers, and return the last of them."""
        counter = self._folder / _COUNTER
        files.check_place(counter, self._folder)  # a folder from elsewhere may have a link of this name
        files.check_regular(counter)
        handle = os.open(counter, _APPEND, 0o644)
        try:
            os.write(handle, b"." * count)
            return os.lseek(handle, 0, os.SEEK_CUR)
        finally:
            os.close(handle)
