"""Brings the index up to date with a folder: what has not changed is not opened, what has gone is forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lora_zoo.errors import BadFile
from lora_zoo.hashes import LoraHashes
from lora_zoo.index.rows import Row, examine
from lora_zoo.index.store import Known, Store
from lora_zoo.index.walk import Candidate, look, stamp_of, walk

_TOGETHER = 5.0  # seconds of reading that are lost, at most, if a scan is stopped

OnFile = Callable[[int, int], None]  # files read so far, files to read


@dataclass(frozen=True)
class Report:
    """What a scan found."""

    root: Path
    files: int
    new: int
    changed: int
    gone: int
    refused: int  # files that cannot be used; their rows say why
    unread: Mapping[Path, str]  # folders that could not be listed: what is known of them is kept as it was
    seconds: float

    @property
    def news(self) -> bool:
        return bool(self.new or self.changed or self.gone or self.unread)


def scan(store: Store, root: Path, on_file: OnFile | None = None) -> Report:
    """Scan a folder and all below it. One that is not there is an error, and its rows are kept: it may be a drive."""
    started = time.perf_counter()
    root = root.expanduser().absolute()
    if not root.is_dir():
        raise BadFile(f"zoo folder {root}: {'not a folder' if root.exists() else 'there is no such folder'}")
    known = store.known(root)
    below = walk(root)
    if root in below.unread:
        raise BadFile(f"zoo folder {root}: {below.unread[root]}")
    stale = [one for one in below.candidates if _is_stale(one, known.get(str(one.path)))]
    read = _read(store, root, stale, known, on_file)
    there = {str(one.path) for one in below.candidates} - {str(one.path) for one in stale if str(one.path) not in read}
    hidden = tuple(f"{folder.as_posix()}/" for folder in below.unread)
    gone = [path for path in known if path not in there and not Path(path).as_posix().startswith(hidden)]
    store.drop(root, gone)
    refused = {path for path, one in known.items() if one.refused} - read.keys() | {
        path for path, row in read.items() if row.error
    }
    return Report(
        root=root,
        files=len(there),
        new=len(read.keys() - known.keys()),
        changed=len(read.keys() & known.keys()),
        gone=len(gone),
        refused=len(refused & there),
        unread=below.unread,
        seconds=time.perf_counter() - started,
    )


def current(store: Store, path: str, root: str, stamp: str) -> Row | None:
    """Return the row of a file that a scan has found, read again if the file has changed since; None: it has gone."""
    try:
        unchanged = stamp != "" and stamp_of(Path(path)) == stamp
        candidate = None if unchanged else look(Path(path))
    except OSError:
        return None
    if unchanged:
        return store.at(path, Path(root))
    row = None if candidate is None else examine(candidate, Path(root), None)
    if row is not None:
        store.put([row])
    return row


def _is_stale(one: Candidate, row: Known | None) -> bool:
    return row is None or (row.stamp, row.beside_stamp) != (one.stamp, one.beside_stamp) or not row.stamp


def _read(
    store: Store, root: Path, stale: list[Candidate], known: Mapping[str, Known], on_file: OnFile | None
) -> dict[str, Row]:
    """Read files and store their rows every few seconds; return the rows of those that have not gone."""
    read: dict[str, Row] = {}
    waiting: list[Row] = []
    stored = time.monotonic()
    for number, one in enumerate(stale, start=1):
        before = known.get(str(one.path))
        row = examine(one, root, _hashes(store, one, root) if before and before.stamp == one.stamp else None)
        if row is not None:
            read[row.path] = row
            waiting.append(row)
        if time.monotonic() - stored > _TOGETHER:
            store.put(waiting)
            waiting, stored = [], time.monotonic()
        if on_file is not None:
            on_file(number, len(stale))
    store.put(waiting)
    return read


def _hashes(store: Store, one: Candidate, root: Path) -> LoraHashes | None:
    """Return the hashes of a file whose sidecars alone have changed."""
    row = store.at(str(one.path), root)
    return row.facts.hashes if row and row.facts else None
