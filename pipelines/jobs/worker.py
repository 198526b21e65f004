"""One process at work on a batch: claim, render, write, note; until nothing is left to do, by anybody."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines import images
from pipelines.engine import Engine
from pipelines.jobs import grids
from pipelines.jobs.ledger import Claim, Entry, Ledger, Picture
from pipelines.jobs.states import State

if TYPE_CHECKING:
    from pipelines.images import Rendering

log = logging.getLogger(__name__)

_WAIT = 0.5  # seconds between looks at what others are doing


@dataclass(frozen=True)
class Event:
    """Something that happened to a job."""

    what: str  # done, failed
    file: str
    seconds: float | None = None
    error: str | None = None


OnEvent = Callable[[Event], None]


def work(folder: Path, engine: Engine, on_event: OnEvent) -> None:
    """Take part in the batch of a folder until all its jobs are done, failed or quarantined.

    A stop by an exception, the keyboard's included, gives back what was claimed. A full disk is the folder's trouble,
    not the job's: it is raised.
    """
    ledger = Ledger(folder)
    try:
        with ledger.owners.enter() as owner:
            try:
                while _go(ledger, owner, engine, on_event):
                    pass
            except BaseException:
                ledger.release(owner)
                raise
        grids.draw_missing(ledger)
    finally:
        ledger.close()


def _go(ledger: Ledger, owner: str, engine: Engine, on_event: OnEvent) -> bool:
    """Do what can be claimed now; return whether there may be more."""
    claim = ledger.claim(owner)
    if claim is None:
        if not ledger.counts()[State.RUNNING]:
            return False
        time.sleep(_WAIT)  # another process may die and leave its jobs to us
        return True
    renderings = _rendered(ledger, owner, engine, claim, on_event)
    if renderings is None:
        return True
    for entry, rendering in zip(claim.entries, renderings, strict=True):
        if entry.number in claim.wanted:
            made = write(rendering, ledger.folder / entry.file)
            ledger.finish(entry.number, made)
            on_event(Event("done", entry.file, made.seconds))
    return True


def _rendered(ledger: Ledger, owner: str, engine: Engine, claim: Claim, on_event: OnEvent) -> list[Rendering] | None:
    """Render a claim. What raises in company is tried again alone; what raises alone has failed."""
    try:
        return engine.render_many([one.request for one in claim.entries])
    except Exception as error:  # noqa: BLE001  whatever a job raises is its own failure; the others go on
        log.info("a go of %d jobs raised", len(claim.entries), exc_info=True)
        failed, *company = claim.entries
        if company:
            ledger.release(owner, apart=True)
            return None
        told = f"{type(error).__name__}: {error}"
        ledger.fail(failed.number, told)
        on_event(Event("failed", failed.file, error=told))
        return None


def write(rendering: Rendering, path: Path) -> Picture:
    """Put a picture into its place, on the disk for good, and return what the ledger keeps of it.

    What the clock said is kept out of the file: the same job gives the same bytes.
    """
    for left in path.parent.glob(f".{path.name}.*.part"):
        left.unlink(missing_ok=True)  # of a process that was killed while it wrote
    seconds = rendering.record.seconds or 0.0
    timeless = replace(rendering, record=rendering.record.model_copy(update={"seconds": None}))
    sha256 = images.save(timeless, path)
    return Picture(sha256, rendering.record.pixels_sha256, seconds)


def matches(entry: Entry, path: Path) -> bool:
    """Tell whether a file holds the bytes that the ledger knows."""
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256
