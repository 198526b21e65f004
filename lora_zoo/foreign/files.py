"""Open and read files that somebody else may have made.

A name in a folder of strangers can be a pipe that nobody writes to, a device that never ends, a link to any file of
this machine, or a file larger than memory. So a file is opened only if it is a regular one, stays within its folder
where a folder is given, and is read up to a stated number of bytes, one more to tell that there are more.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lora_zoo.errors import BadFile, ZooError
from lora_zoo.foreign.text import escaped

_BLOCK = 1 << 20
#: What opening must not do: wait for a writer of a pipe, take a terminal, or stay open in a child process.
_FLAGS = os.O_RDONLY
for _name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"):
    _FLAGS |= getattr(os, _name, 0)


def opened(path: Path, within: Path | None = None, error: type[ZooError] = BadFile) -> BinaryIO:
    """Open a regular file for reading bytes.

    Args:
        path: The file; a link to a regular file is one.
        within: The folder that it must lie in once all links are followed; None: it may lie anywhere.
        error: The type of error to raise.

    Raises:
        ZooError: Of the type asked for, if there is no such file, it is no regular file (a pipe, device, socket or
            folder), it lies outside `within`, or the system refuses to open it.
    """
    check_place(path, within, error)
    try:
        # looked at before it is opened, since opening a device can act; and after, since it may have been exchanged
        before = os.stat(path)
        handle = os.open(path, _FLAGS) if stat.S_ISREG(before.st_mode) else -1
    except (OSError, ValueError) as reason:  # the latter for names that no file can have
        raise error(f"{shown(path)}: cannot be opened ({_why(reason)})") from reason
    _check_regular(path, before, error)
    try:
        _check_regular(path, os.fstat(handle), error)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read(path: Path, most: int, within: Path | None = None, error: type[ZooError] = BadFile) -> bytes:
    """Return the bytes of a regular file of at most `most` bytes; see `opened` for the rest.

    The size that a file states is not believed: `most` + 1 bytes are read at the most.
    """
    with opened(path, within, error) as file:
        return read_open(file, path, most, error)


def read_open(file: BinaryIO, path: Path, most: int, error: type[ZooError] = BadFile) -> bytes:
    """Return what is left of an open file, at most `most` bytes; `path` names it in messages."""
    blocks: list[bytes] = []
    left = most + 1
    try:
        # room is taken as the file states its size, not as `most` allows; if it states too little, block by block
        while left and (block := file.read(min(left, max(_BLOCK, os.fstat(file.fileno()).st_size + 1)))):
            blocks.append(block)
            left -= len(block)
    except OSError as reason:
        raise error(f"{shown(path)}: cannot be read ({_why(reason)})") from reason
    if not left:
        raise error(f"{shown(path)}: more than {most:,} bytes, which is the most that is read of such a file")
    return b"".join(blocks)


def blocks(file: BinaryIO, path: Path, error: type[ZooError] = BadFile) -> Iterator[bytes]:
    """Yield what is left of an open file, some at a time, up to the size that it has now: one may grow without end."""
    try:
        left = os.fstat(file.fileno()).st_size - file.tell()
        while left > 0 and (block := file.read(min(left, _BLOCK))):
            left -= len(block)
            yield block
    except OSError as reason:
        raise error(f"{shown(path)}: cannot be read ({_why(reason)})") from reason


def sha256(path: Path, start: int = 0, within: Path | None = None, error: type[ZooError] = BadFile) -> str:
    """Return the sha256 of a regular file's content from byte `start` on."""
    found = hashlib.sha256()
    with opened(path, within, error) as file:
        file.seek(start)
        for block in blocks(file, path, error):
            found.update(block)
    return found.hexdigest()


def read_text(path: Path, most: int, within: Path | None = None, error: type[ZooError] = BadFile) -> str:
    """Return the text of a regular file of at most `most` bytes in UTF-8, with or without a byte order mark."""
    try:
        return read(path, most, within, error).decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        raise error(f"{shown(path)}: not text in UTF-8 ({reason.reason} at byte {reason.start})") from reason


def check_place(path: Path, within: Path | None, error: type[ZooError] = BadFile) -> None:
    """Refuse a path that leads out of a folder, by its parts or by a link on the way."""
    if within is None:
        return
    try:
        inside = path.resolve().is_relative_to(home(within).resolve())
    except (OSError, ValueError, RuntimeError) as reason:  # RuntimeError: links in a circle, on Python before 3.13
        raise error(f"{shown(path)}: cannot be followed ({_why(reason)})") from reason
    if not inside:
        raise error(f"{shown(path)}: leads out of its folder, which no file of it may")


def home(folder: Path) -> Path:
    """Return where the files of a folder may lie: in it, or, in a cache of the Hugging Face hub, in its repository.

    That cache keeps contents in `blobs/`, and `snapshots/REVISION/` holds links to them.
    """
    for above in (folder, *folder.parents):
        if above.name == "snapshots" and (above.parent / "blobs").is_dir():
            return above.parent
    return folder


def shown(path: Path) -> str:
    """Return a path as it can be printed and sent, whatever bytes its name has."""
    return escaped(os.fspath(path))


def check_regular(path: Path, error: type[ZooError] = BadFile) -> None:
    """Refuse what is there and is no regular file; where nothing is, a file may be made."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as reason:
        raise error(f"{shown(path)}: cannot be opened ({_why(reason)})") from reason
    _check_regular(path, found, error)


def _check_regular(path: Path, found: os.stat_result, error: type[ZooError]) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise error(f"{shown(path)}: {_kind(found.st_mode)}, not a regular file")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _why(reason: Exception) -> str:
    return reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
