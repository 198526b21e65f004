"""What a batch folder holds, checked against its ledger: nothing lost, nothing changed, nothing foreign."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from composer.sharing import shared
from lora_zoo.errors import ZooError
from pipelines import images
from pipelines.jobs.ledger import FILE, Entry, Ledger, file_name
from pipelines.jobs.states import State
from pipelines.jobs.worker import matches

_OWN = (FILE, f"{FILE}-wal", f"{FILE}-shm", ".workers")


@dataclass(frozen=True)
class Status:
    """How far a batch got."""

    counts: dict[State, int]
    seconds: float  # of rendering, all done jobs of which it is known together
    troubles: tuple[tuple[str, str], ...]  # file and error of what failed or is quarantined


def status(ledger: Ledger) -> Status:
    """Return how far a batch got."""
    entries = ledger.entries()
    troubles = [(one.file, one.error or "") for one in entries if one.state in (State.FAILED, State.QUARANTINED)]
    return Status(ledger.counts(), sum(one.seconds for one in entries if one.seconds is not None), tuple(troubles))


def verify(ledger: Ledger, advance: Callable[[int], None]) -> list[str]:
    """Return everything that is wrong: the ledger's pages, files, their bytes, records and pixels, strangers."""
    found = [f"{FILE}: {text}" for text in ledger.integrity()]
    known = set(_OWN) | {file for file, _ in ledger.grids()}
    for entry in ledger.entries():
        known.add(entry.file)
        if entry.file != file_name(entry.number, entry):
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
    wrong = [] if record.request() in (shared(entry.request), entry.request) else ["its record is of another request"]
    if record.pixels_sha256 != entry.pixels_sha256:
        wrong.append("its record is of other pixels")
    return wrong
