"""Evaluation reports in the folders that the server was told of: listed, and opened by an id, never by a path."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval import running
from eval.page.elements import REPORT_TITLE
from lora_zoo.errors import ZooError
from lora_zoo.foreign import files
from ui.errors import NotThere

_DEPTH = 3  # folders below the one given: outputs/benchmark/compos
_MOST = 200
_NAMED = 6  # methods of a run that are named, at most
_HEAD = 2048  # bytes in which a report says what it is


@dataclass(frozen=True)
class Report:
    """A page that `eval` wrote about runs."""

    id: str
    path: Path
    name: str  # where it lies, seen from the folder given
    about: str  # which suites and methods, in words
    written: float  # seconds since 1970


def found(folders: Sequence[Path]) -> list[Report]:
    """Return the reports, the newest first. Links are not followed, so nothing outside the folders is among them."""
    pages = [_report(root, path) for root in folders for path in _pages(root, _DEPTH)]
    return sorted(pages, key=lambda one: -one.written)[:_MOST]


def unwritten(folders: Sequence[Path]) -> list[str]:
    """Return the names of runs that have no report yet."""
    found: list[str] = []
    for root in folders:
        for run in _walk(root, _DEPTH):
            pages = [*run.glob("*.html"), *run.parent.glob("*.html")]  # one page may be about all runs of a folder
            if (run / running.FILE).is_file() and not any(map(_is_report, pages)):
                found.append(_name(root, run))
    return found[:_MOST]


def find(folders: Sequence[Path], report: str) -> Report:
    """Return the report with an id."""
    for one in found(folders):
        if one.id == report:
            return one
    raise NotThere(f"there is no report {report[:40]!r}")


def _pages(root: Path, depth: int) -> Iterator[Path]:
    for folder in _walk(root, depth):
        yield from (path for path in sorted(folder.glob("*.html")) if _is_report(path))


def _walk(root: Path, depth: int) -> Iterator[Path]:
    """Yield a folder and those in it, as deep as `depth`; the pictures of a run are left alone."""
    if root.is_symlink() or not root.is_dir():
        return
    yield root
    if depth:
        for folder in sorted(root.iterdir()):
            if folder.is_dir() and not folder.is_symlink() and folder.name != running.PICTURES:
                yield from _walk(folder, depth - 1)


def _is_report(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    try:
        with files.opened(path) as file:
            return f"<title>{REPORT_TITLE}</title>".encode() in file.read(_HEAD)
    except (ZooError, OSError):  # what cannot be read is no report, and must not hide those that can
        return False


def _report(root: Path, path: Path) -> Report:
    identity = hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:32]
    runs = [one for one in _walk(path.parent, 1) if (one / running.FILE).is_file()]
    about = "; ".join(map(_about, runs)) or "of runs that lie elsewhere"
    return Report(identity, path, _name(root, path), about, path.stat().st_mtime)


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root.parent if root.name else root).as_posix()


def _about(folder: Path) -> str:
    """Say what a run holds."""
    try:
        wish = running.read(folder)
    except ZooError:
        return f"{folder.name}: its {running.FILE} cannot be read"
    sets = "all sets" if wish.sets is None else f"{wish.sets} sets of each size"
    methods = ", ".join(wish.methods) if len(wish.methods) <= _NAMED else f"{len(wish.methods)} methods"
    return f"{Path(wish.suite).name}: {methods}, {sets}, {wish.seeds} picture(s) each"
