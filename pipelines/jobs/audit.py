"""What a batch folder holds, checked against its ledger: nothing lost, nothing changed, nothing foreign."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from composer.sharing import shared
from lora_zoo.errors import ZooError
from pipelines import images
from pipelines.jobs.base import FILE, pictures
from pipelines.jobs.entries import Entry, file_name
from pipelines.jobs.grids import content_of
from pipelines.jobs.ledger import Ledger
from pipelines.jobs.states import State
from pipelines.jobs.worker import matches

_OWN = (FILE, f"{FILE}-wal", f"{FILE}-shm", ".workers")
_SHOWN = 5


@dataclass(frozen=True)
class Status:
    """How far a batch got."""

    counts: dict[State, int]
    seconds: float  # of rendering, all done jobs of which it is known together
    troubles: tuple[tuple[str, str], ...]  # file and error of what failed or is quarantined, and of damaged rows
    unknown: tuple[str, ...]  # pictures in the folder that the ledger knows nothing of


def status(ledger: Ledger) -> Status:
    """Return how far a batch got."""
    entries = ledger.entries()
    troubles = [
        (entry.file, entry.error or "") for entry in entries if entry.state in (State.FAILED, State.QUARANTINED)
    ]
    troubles += [(row.file, f"the row of job {row.number} is damaged: {row.why}") for row in ledger.damaged()]
    seconds = sum(entry.seconds for entry in entries if entry.seconds is not None)
    return Status(ledger.counts(), seconds, tuple(troubles), tuple(unknown(ledger)))


def unknown(ledger: Ledger) -> list[str]:
    """Return the pictures in a batch's folder that its ledger knows nothing of."""
    known = ledger.files()
    return [name for name in pictures(ledger.folder) if name not in known]


def lost(ledger: Ledger, advance: Callable[[int], None]) -> dict[int, str]:
    """Return the numbers of jobs that were done and whose pictures are not as they were written, and what is wrong."""
    found: dict[int, str] = {}
    for entry in ledger.entries():
        if entry.state is State.DONE:
            path = ledger.folder / entry.file
            if not path.is_file():
                found[entry.number] = f"{entry.file} is missing"
            elif not matches(entry, path):
                found[entry.number] = f"{entry.file} was changed"
        advance(1)
    return found


def few(names: Sequence[str]) -> str:
    """Return the first few of many names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def verify(ledger: Ledger, advance: Callable[[int], None]) -> list[str]:
    """Return everything that is wrong: the ledger's pages, files, their bytes, records and pixels, strangers."""
    found = [f"{FILE}: {text}" for text in ledger.integrity()]
    known = set(_OWN) | ledger.files()
    found += [f"{row.file}: the row of job {row.number} is damaged: {row.why}" for row in ledger.damaged()]
    for file, text in ledger.grids():
        try:
            content_of(file, text)
        except ZooError as error:
            found.append(str(error))
    for entry in ledger.entries():
        if entry.file != file_name(entry.number, entry, entry.suffix):
            found.append(f"{entry.file}: the ledger knows it by another number, method or digest")
        if entry.state is State.DONE:
            found += [f"{entry.file}: {wrong}" for wrong in _wrong(entry, ledger.folder / entry.file)]
        advance(1)
    found += [f"{path.name}: not of this batch" for path in sorted(ledger.folder.iterdir()) if path.name not in known]
    return found


def _wrong(entry: Entry, path: Path) -> list[str]:
    if not path.is_file():
        return ["is missing"]
    if not matches(entry, path):
        return ["its bytes are not those that were written"]
    try:
        record = images.read_record(path)
    except ZooError as error:
        return [str(error)]
    made = record.request()
    said = entry.request.model_fields_set  # what a row of an earlier version does not say was settled when it was made
    alike = any(
        all(getattr(made, key) == getattr(asked, key) for key in said)
        for asked in (shared(entry.request), entry.request)  # earlier versions wrote paths into files
    )
    wrong = [] if alike else ["its record is of another request"]
    if record.pixels_sha256 != entry.pixels_sha256:
        wrong.append("its record is of other pixels")
    return wrong
