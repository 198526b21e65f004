"""What `batch` does, once its options are read: plan, price, render with any number of processes, tell, check."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from composer.errors import BadRequest
from pipelines import bars, cli_output, quotes
from pipelines.cli_batch_open import BatchFlags, opened, planned
from pipelines.cli_engine import EngineFlags
from pipelines.cli_exit import stoppable
from pipelines.cli_workers import helpers, share_cores
from pipelines.engine import Engine
from pipelines.jobs import audit, axes
from pipelines.jobs.ledger import Ledger
from pipelines.jobs.planning import resolved_goes
from pipelines.jobs.seeds import Seeds
from pipelines.jobs.states import State
from pipelines.places import check_folder

if TYPE_CHECKING:
    from pipelines.jobs.worker import Event, OnEvent


@dataclass(frozen=True)
class Typed:
    """All of the command as typed."""

    words: tuple[str, ...]
    out: Path | None
    axes: tuple[str | None, str | None, str | None]
    workers: int
    retry_failed: bool
    dry_run: bool
    as_json: bool
    ray: str | None
    by: EngineFlags = EngineFlags()
    model: str | None = None
    method: str | None = None
    file_format: str | None = None

    @property
    def of_jobs(self) -> tuple[object, ...]:
        """What only a file of jobs can be given."""
        return (self.out, *self.axes, self.model, self.method, self.file_format)


def command(typed: Typed) -> bool:
    """Do what the words say; return whether all is well."""
    first, *rest = typed.words
    if first in ("status", "verify", "resume"):
        if len(rest) != 1 or any(given is not None for given in typed.of_jobs):
            raise BadRequest(f"batch {first} takes one folder, and neither --out nor what belongs to a file of jobs")
        folder = Path(rest[0])
        if first == "status":
            return status(folder, typed.as_json)
        return verify(folder, typed.as_json) if first == "verify" else run(_flags(typed, None, folder))
    if rest:
        raise BadRequest(f"batch takes one file of jobs, not {len(typed.words)}")
    if typed.dry_run:
        price(_flags(typed, Path(first), typed.out or Path()), typed.out is not None)
        return True
    if typed.out is None:
        raise BadRequest("batch needs --out DIR, the folder for pictures and ledger")
    return run(_flags(typed, Path(first), typed.out))


def _flags(typed: Typed, jobs: Path | None, out: Path) -> BatchFlags:
    given = [(name, text) for name, text in zip(axes.NAMES, typed.axes, strict=True) if text is not None]
    parsed = tuple(axes.parse(name, text) for name, text in given)
    flags = BatchFlags(jobs, out, parsed, typed.workers, typed.retry_failed, typed.as_json, typed.ray, typed.by)
    return replace(flags, model=typed.model, method=typed.method, file_format=typed.file_format)


def price(flags: BatchFlags, has_folder: bool = False) -> None:
    """Say what a batch would take, without loading a model or writing anything.

    What a run would refuse is refused: its folder, where one is named, and how its model is to be run.
    """
    _check_ray(flags)
    engine = flags.by.engine()
    found = planned(flags, engine, Seeds())
    if has_folder:
        check_folder(flags.out)
    flags.by.check_runtime()
    told = quotes.quote(engine, resolved_goes(engine, found.jobs), flags.by.runtime.dtype)
    counts: dict[str, JsonValue] = {
        "jobs": len(found.jobs),
        "repeated": found.repeated,
        "grids": len(found.grids),
    }
    if flags.as_json:
        cli_output.document({"dry_run": True, **counts, **told.row()})
    else:
        cli_output.pairs({**counts, **told.line()})
    for remark in told.remarks:
        cli_output.notice(f"notice: {remark}")


def run(flags: BatchFlags, engine: Engine | None = None) -> bool:
    """Render a batch, by an engine that has its models already if there is one; return whether every job is done."""
    _check_ray(flags)
    engine = engine or flags.by.engine()
    ledger = opened(flags, engine)
    try:
        if flags.retry_failed:
            cli_output.notice(f"{ledger.retry()} jobs get a new start")
        here = flags.workers if flags.ray is None else 1
        with stoppable(), helpers(flags.out, here, flags.by.engine) as others:
            _work(flags, engine, ledger, others)
        return _told(flags, ledger)
    except KeyboardInterrupt:
        cli_output.notice("the same command goes on from here")
        raise
    finally:
        ledger.close()


def _check_ray(flags: BatchFlags) -> None:
    if flags.ray is not None:
        from pipelines.cluster import connect

        connect.check(flags.ray)


def status(folder: Path, as_json: bool) -> bool:
    """Tell how far a batch got; return whether its ledger knows all that is there."""
    ledger = Ledger(folder)
    try:
        found, damaged = audit.status(ledger), ledger.damaged()
    finally:
        ledger.close()
    counts: dict[str, JsonValue] = {state.value: count for state, count in found.counts.items()}
    if as_json:
        troubles: list[JsonValue] = [{"file": file, "error": error} for file, error in found.troubles]
        unknown: list[JsonValue] = list(found.unknown)
        cli_output.document({**counts, "seconds": found.seconds, "troubles": troubles, "unknown": unknown})
    else:
        cli_output.pairs({**counts, "seconds": round(found.seconds, 1)})
        for file, error in found.troubles:
            cli_output.line(f"{file}: {cli_output.printable(error)}")
        if found.unknown:
            cli_output.line(f"not in the ledger: {audit.few(found.unknown)}")
    return not found.unknown and not damaged


def verify(folder: Path, as_json: bool) -> bool:
    """Check pictures, records and ledger against each other; return whether all is well."""
    ledger = Ledger(folder)
    try:
        with bars.bar("checking", sum(ledger.counts().values())) as advance:
            wrong = audit.verify(ledger, advance)
    finally:
        ledger.close()
    if as_json:
        cli_output.document({"wrong": list(wrong)})
    else:
        for text in wrong:
            cli_output.line(cli_output.printable(text))
        cli_output.line(f"{len(wrong)} things are wrong" if wrong else "all is as the ledger says")
    return not wrong


def _work(flags: BatchFlags, engine: Engine, ledger: Ledger, others: Sequence[BaseProcess]) -> None:
    with bars.bar("pictures", sum(ledger.counts().values())) as advance:
        on_event = _teller(flags, ledger, advance, alone=not others)
        if flags.ray is not None:
            from pipelines.cluster import driver

            driver.work(flags.out, driver.Place(flags.ray, flags.workers, flags.by.engine), on_event, cli_output.notice)
            return
        from pipelines.jobs import worker

        share_cores(flags.workers)
        worker.work(flags.out, engine, on_event)
        for helper in others:
            helper.join()


def _teller(flags: BatchFlags, ledger: Ledger, advance: bars.Advance, alone: bool) -> OnEvent:
    """Return what tells of each job, and moves the bar, also for what others have done."""
    shown = _ended(ledger)
    advance(shown)

    def on_event(event: Event) -> None:
        nonlocal shown
        if flags.as_json:
            told = {"event": event.what, **asdict(event)}
            print(json.dumps({key: one for key, one in told.items() if key != "what" and one is not None}), flush=True)
        elif event.error is not None:
            cli_output.notice(f"{event.file} failed: {cli_output.printable(event.error)}")
        now = shown + 1 if alone else _ended(ledger)
        advance(now - shown)
        shown = now

    return on_event


def _ended(ledger: Ledger) -> int:
    counts = ledger.counts()
    return counts[State.DONE] + counts[State.FAILED] + counts[State.QUARANTINED]


def _told(flags: BatchFlags, ledger: Ledger) -> bool:
    counts = ledger.counts()
    left = [f"{count} {state.value}" for state, count in counts.items() if count and state is not State.DONE]
    if flags.as_json:
        print(json.dumps({"event": "end", **{state.value: count for state, count in counts.items()}}), flush=True)
    else:
        cli_output.line(f"{counts[State.DONE]} pictures in {flags.out}" + "".join(f", {one}" for one in left))
    if counts[State.FAILED] or counts[State.QUARANTINED]:
        cli_output.notice(f"`batch status {flags.out}` tells why; `--retry-failed` tries again")
    return not left
