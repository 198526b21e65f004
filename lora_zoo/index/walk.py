"""Finds the LoRAs below a folder without opening any: files, PEFT folders, and what lies beside them.

Links are followed, each folder is entered once however many ways lead to it, and what cannot be listed is told.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_zoo.index.sidecars import PREVIEWS, SIDECARS
from lora_zoo.sources import COMPONENTS, PEFT_CONFIG, PEFT_WEIGHTS

#: Files of these kinds are rows; those that are pickles are refused by their content, with that as the reason.
SUFFIXES = (".safetensors", ".pt", ".ckpt")


@dataclass(frozen=True)
class Candidate:
    """What may be a LoRA, and what tells whether it has changed."""

    path: Path  # a file, or a PEFT folder
    stamp: str  # of the file itself: another one means another content
    beside: Mapping[str, Path]  # ending -> sidecar or preview
    beside_stamp: str
    size: int
    inode: str  # equal for two names of one file
    fault: str = ""  # why it need not be opened


@dataclass(frozen=True)
class Walk:
    """What lies below a folder."""

    candidates: tuple[Candidate, ...]
    unread: Mapping[Path, str]  # folders that could not be listed, and why


def walk(root: Path) -> Walk:
    """Look through a folder and all below it."""
    found: list[Candidate] = []
    unread: dict[Path, str] = {}
    entered: set[tuple[int, int]] = set()
    # links last: a file is known by its own folder, if it has one here
    folders, linked = deque([root]), deque[Path]()
    while folders or linked:
        folder = folders.popleft() if folders else linked.popleft()
        try:
            state = os.stat(folder)
            if (state.st_dev, state.st_ino) in entered:
                continue
            entered.add((state.st_dev, state.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            unread[folder] = error.strerror or str(error)
            continue
        peft = _peft(folder, entries)
        if peft is not None:
            found.append(peft)
            continue
        below = [entry for entry in entries if _is_folder(entry)]
        folders.extend(Path(entry.path) for entry in below if not entry.is_symlink())
        linked.extend(Path(entry.path) for entry in below if entry.is_symlink())
        found.extend(_files([entry for entry in entries if not _is_folder(entry)]))
    return Walk(tuple(found), unread)


def stamp_of(path: Path) -> str:
    """Return the stamp of a file or PEFT folder as it is now; `FileNotFoundError` if it has gone."""
    return ";".join(_stamp(os.stat(one)) for one in _contents(path))


def look(path: Path) -> Candidate | None:
    """Return what `walk` would find of one file or PEFT folder now; None: nothing."""
    folder = path.is_dir()
    with os.scandir(path if folder else path.parent) as listing:
        entries = list(listing)
    if folder:
        return _peft(path, entries)
    by_name = {entry.name: entry for entry in entries}
    return _file(by_name[path.name], by_name) if path.name in by_name else None


def _peft(folder: Path, entries: Sequence[os.DirEntry[str]]) -> Candidate | None:
    """Return a PEFT folder as one candidate, also one with a PEFT folder for each component."""
    names = {entry.name for entry in entries}
    if PEFT_WEIGHTS not in names and not _parts(folder):
        return None
    beside = {PREVIEWS[0]: folder / f"{folder.name}{PREVIEWS[0]}"}
    there = {ending: path for ending, path in beside.items() if path.name in names}
    try:
        states = [os.stat(path) for path in _contents(folder)]
    except OSError as error:
        return Candidate(folder, "", {}, "", 0, "", error.strerror or str(error))
    size = sum(state.st_size for state in states)
    stamp = ";".join(map(_stamp, states))
    return Candidate(folder, stamp, there, _beside_stamp(there), size, _inode(states[0]))


def _contents(path: Path) -> list[Path]:
    if not os.path.isdir(path):
        return [path]
    folders = [path] if os.path.exists(path / PEFT_WEIGHTS) else _parts(path)
    files = [folder / name for folder in folders for name in (PEFT_WEIGHTS, PEFT_CONFIG)]
    return [file for file in files if os.path.exists(file)] or [path]


def _parts(folder: Path) -> list[Path]:
    return [folder / name for name in COMPONENTS if os.path.exists(folder / name / PEFT_WEIGHTS)]


def _files(entries: Sequence[os.DirEntry[str]]) -> list[Candidate]:
    by_name = {entry.name: entry for entry in entries}
    found = [_file(entry, by_name) for entry in entries if entry.name.lower().endswith(SUFFIXES)]
    return [candidate for candidate in found if candidate is not None]


def _file(entry: os.DirEntry[str], by_name: Mapping[str, os.DirEntry[str]]) -> Candidate | None:
    path = Path(entry.path)
    try:
        state = entry.stat()
    except FileNotFoundError:
        return Candidate(path, "", {}, "", 0, "", "a link to nothing") if entry.is_symlink() else None
    except OSError as error:
        return Candidate(path, "", {}, "", 0, "", error.strerror or str(error))
    if not stat.S_ISREG(state.st_mode):  # opening a pipe would wait for ever
        return Candidate(path, "", {}, "", 0, "", "not a plain file")
    stem = os.path.splitext(entry.name)[0]
    beside = {end: path.with_name(stem + end) for end in (*SIDECARS, *PREVIEWS) if stem + end in by_name}
    return Candidate(path, _stamp(state), beside, _beside_stamp(beside), state.st_size, _inode(state))


def _beside_stamp(beside: Mapping[str, Path]) -> str:
    stamps: list[str] = []
    for ending, path in beside.items():
        try:
            stamps.append(f"{ending}={_stamp(os.stat(path))}")
        except OSError:
            stamps.append(f"{ending}=?")  # gone or out of reach; what reads it says so
    return ";".join(stamps)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


def _stamp(state: os.stat_result) -> str:
    return f"{state.st_size}:{state.st_mtime_ns}"


def _inode(state: os.stat_result) -> str:
    return f"{state.st_dev}:{state.st_ino}"
