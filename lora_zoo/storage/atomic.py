"""Files that are written whole or not at all: made beside their place, forced to the disk, put in place in one act."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write(data: bytes, path: Path) -> None:
    """Write a file in the place of one that may be there. Its folder must exist."""
    _write(data, path, os.replace)


def write_text(text: str, path: Path) -> None:
    """Do the same with text, as UTF-8."""
    write(text.encode(), path)


def write_new(data: bytes, path: Path) -> None:
    """Do the same where no file is; one that is there, or appears meanwhile, is a `FileExistsError`, and stays."""
    _write(data, path, _place_new)


def sweep(path: Path) -> None:
    """Take away what a process left that was killed while it wrote this file; nobody else may be writing it."""
    for left in path.parent.glob(f".{path.name}.*.part"):
        left.unlink(missing_ok=True)


def _write(data: bytes, path: Path, place: Callable[[str, Path], None]) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # a temporary file is private; what is written here is not
        place(temporary, path)
        _sync(path.parent)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _place_new(temporary: str, path: Path) -> None:
    try:
        os.link(temporary, path)  # unlike a renaming, it never takes another file's place
    except FileExistsError:
        raise
    except OSError:  # file systems without links: the name is claimed first, and is empty for a moment
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        os.replace(temporary, path)


def _sync(folder: Path) -> None:
    """Force a folder's names to the disk; where the system cannot, its own journal must do."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
