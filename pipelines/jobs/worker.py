"""One process at work on a batch: claim, render, write, note; until nothing is left to do, by anybody."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lora_zoo.foreign import files
from lora_zoo.storage import atomic
from pipelines import images
from pipelines.engine import Engine
from pipelines.jobs import grids
from pipelines.jobs.entries import Entry
from pipelines.jobs.ledger import Claim, Ledger, Picture
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
    machine: str | None = None  # None: this one


OnEvent = Callable[[Event], None]


@dataclass(frozen=True)
class Encoded:
    """A picture as the bytes of its file, and what the ledger keeps beside their digest."""

    data: bytes
    pixels_sha256: str
    seconds: float


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
    try:
        renderings = engine.render_many([one.request for one in claim.entries])
    except Exception as error:  # noqa: BLE001  whatever a job raises is its own failure; the others go on
        log.info("a go of %d jobs raised", len(claim.entries), exc_info=True)
        raised(ledger, owner, claim, told(error), on_event)
        return True
    for entry, rendering in zip(claim.entries, renderings, strict=True):
        if entry.number in claim.wanted:
            finish(ledger, entry, encoded(rendering, entry.suffix), on_event)
    return True


def told(error: Exception) -> str:
    """Return an error in the words that the ledger keeps."""
    return f"{type(error).__name__}: {error}"


def raised(ledger: Ledger, owner: str, claim: Claim, error: str, on_event: OnEvent) -> None:
    """Note that a claim raised: in company, its jobs are tried again one by one; alone, it has failed."""
    failed, *company = claim.entries
    if company:
        ledger.release(owner, apart=True)
        return
    ledger.fail(failed.number, error)
    on_event(Event("failed", failed.file, error=error))


def finish(ledger: Ledger, entry: Entry, made: Encoded, on_event: OnEvent) -> None:
    """Put a picture on the disk, then into the ledger: what is killed in between is rendered and written once more."""
    picture = put(made, ledger.folder / entry.file)
    ledger.finish(entry.number, picture)
    on_event(Event("done", entry.file, picture.seconds))


def write(rendering: Rendering, path: Path) -> Picture:
    """Put a picture into its place, on the disk for good, and return what the ledger keeps of it."""
    return put(encoded(rendering), path)


def encoded(rendering: Rendering, suffix: str = "png") -> Encoded:
    """Return a picture as its file. What the clock said is kept out of it: the same job gives the same bytes."""
    record = rendering.record
    if record.seconds is None:
        raise ValueError("this picture was read from a file of a batch, which keeps no time; encode what was rendered")
    timeless = replace(rendering, record=record.model_copy(update={"seconds": None}))
    return Encoded(images.encode(timeless, images.format_named(suffix)), record.pixels_sha256, record.seconds)


def put(made: Encoded, path: Path) -> Picture:
    """Put a picture's bytes into their place, on the disk for good, and return what the ledger keeps of it."""
    atomic.sweep(path)
    atomic.write(made.data, path)
    return Picture(hashlib.sha256(made.data).hexdigest(), made.pixels_sha256, made.seconds)


def matches(entry: Entry, path: Path) -> bool:
    """Tell whether a file holds the bytes that the ledger knows."""
    return path.is_file() and files.sha256(path) == entry.sha256
