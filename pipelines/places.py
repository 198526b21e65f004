"""Where results go: whether a folder or a file can be written is found before any work, by trying it."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from composer.errors import BadRequest
from lora_zoo.foreign.files import shown

_NAME = "0" * 64  # as long as the names of files that are written into a folder


def check_folder(folder: Path, option: str = "--out") -> None:
    """Refuse a folder that cannot be made, or that no file can be written to. Nothing of the trial stays."""
    there = _nearest(folder, option)
    if not os.path.isdir(there):
        raise BadRequest(f"{option} {shown(folder)}: '{shown(there)}' is a file, not a folder")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
        for name in (*folder.absolute().parts[len(there.absolute().parts) :], str(folder / _NAME)):
            with suppress(FileNotFoundError):  # any other trouble, such as its length, is the name's
                os.lstat(there.absolute() / name)
    except (OSError, ValueError) as error:  # the latter for names that no file can have
        raise _refused(folder, option, there, error) from error


def make_folder(folder: Path, option: str) -> None:
    """Make a folder that files will be written to, or refuse it as `check_folder` does."""
    check_folder(folder, option)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(folder, option, folder, error) from error


def check_file(path: Path, option: str) -> None:
    """Refuse a file that cannot be written beside what its folder holds. Nothing of the trial stays."""
    check_folder(path.parent, option)
    try:
        os.lstat(path)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise _refused(path, option, path.parent, error) from error
    if not os.path.exists(path):
        raise BadRequest(f"{option} {shown(path)}: this is a link to nothing; name the file itself")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise BadRequest(f"{option} {shown(path)}: this is {kind}; name a file")


def _nearest(folder: Path, option: str) -> Path:
    """Return the part of a path that is there; a link to nothing on the way is an error."""
    for part in (folder, *folder.absolute().parents):
        if os.path.exists(part):
            return part
        if os.path.lexists(part):
            raise BadRequest(f"{option} {shown(folder)}: '{shown(part)}' is a link to nothing")
    return Path(folder.absolute().anchor)


def _refused(path: Path, option: str, there: Path, error: Exception) -> BadRequest:
    why = getattr(error, "strerror", None) or error
    return BadRequest(f"{option} {shown(path)}: '{shown(there)}' cannot be written to ({why})")
