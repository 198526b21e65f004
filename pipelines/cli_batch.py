"""What `batch` does, once its options are read: plan, price, render with any number of processes, tell, check."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from pydantic import JsonValue

from composer.errors import BadRequest
from pipelines import bars, cli_output
from pipelines.cli_commands import check_folder
from pipelines.engine import Engine
from pipelines.jobs import audit, axes, sources
from pipelines.jobs.errors import NoRoom
from pipelines.jobs.ledger import Ledger
from pipelines.jobs.planning import Plan, plan, together
from pipelines.jobs.states import State

_RECORD = 8192  # bytes of a picture's file beyond its pixels, at most as a rule


@dataclass(frozen=True)
class BatchFlags:
    """The options of `batch` as typed."""

    jobs: Path | None  # None: go on with what the folder's ledger holds
    out: Path
    axes: tuple[axes.Axis, ...]
    workers: int
    retry_failed: bool
    as_json: bool


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


def command(typed: Typed) -> bool:
    """Do what the words say; return whether all is well."""
    first, *rest = typed.words
    if first in ("status", "verify", "resume"):
        if len(rest) != 1 or typed.out is not None or any(typed.axes):
            raise BadRequest(f"batch {first} takes one folder and neither --out nor axes")
        folder = Path(rest[0])
        if first == "status":
            status(folder, typed.as_json)
            return True
        return verify(folder, typed.as_json) if first == "verify" else run(_flags(typed, None, folder))
    if rest:
        raise BadRequest(f"batch takes one file of jobs, not {len(typed.words)}")
    if typed.dry_run:
        price(_flags(typed, Path(first), Path()))
        return True
    if typed.out is None:
        raise BadRequest("batch needs --out DIR, the folder for pictures and ledger")
    return run(_flags(typed, Path(first), typed.out))


def _flags(typed: Typed, jobs: Path | None, out: Path) -> BatchFlags:
    given = [(name, text) for name, text in zip(axes.NAMES, typed.axes, strict=True) if text is not None]
    parsed = tuple(axes.parse(name, text) for name, text in given)
    return BatchFlags(jobs, out, parsed, typed.workers, typed.retry_failed, typed.as_json)


def price(flags: BatchFlags) -> None:
    """Say what a batch would take, without loading a model or writing anything."""
    engine = Engine()
    planned = _planned(flags, engine)
    goes = [engine.dry_run_many([job.request for job in go]) for go in together(planned.jobs)]
    told: dict[str, JsonValue] = {
        "jobs": len(planned.jobs),
        "repeated": planned.repeated,
        "grids": len(planned.grids),
        "unet_passes": sum(go.unet_passes for go in goes),
        "unet_rows": sum(go.unet_rows for go in goes),
        "unet_calls": sum(go.unet_calls for go in goes),
    }
    if flags.as_json:
        cli_output.document({"dry_run": True, **told})
    else:
        cli_output.pairs(told)


def run(flags: BatchFlags) -> bool:
    """Render a batch; return whether every job is done."""
    engine = Engine()
    ledger = _open(flags, engine)
    try:
        if flags.retry_failed:
            cli_output.notice(f"{ledger.retry()} jobs get a new start")
        with _stoppable(), _helpers(flags) as helpers:
            _work(flags, engine, ledger, helpers)
        return _told(flags, ledger)
    except KeyboardInterrupt:
        cli_output.notice("stopped; the same command goes on from here")
        return False
    finally:
        ledger.close()


def status(folder: Path, as_json: bool) -> None:
    """Tell how far a batch got."""
    ledger = Ledger(folder)
    found = audit.status(ledger)
    ledger.close()
    counts: dict[str, JsonValue] = {state.value: count for state, count in found.counts.items()}
    if as_json:
        troubles: list[JsonValue] = [{"file": file, "error": error} for file, error in found.troubles]
        cli_output.document({**counts, "seconds": found.seconds, "troubles": troubles})
        return
    cli_output.pairs({**counts, "seconds": round(found.seconds, 1)})
    for file, error in found.troubles:
        cli_output.line(f"{file}: {cli_output.printable(error)}")


def verify(folder: Path, as_json: bool) -> bool:
    """Check pictures, records and ledger against each other; return whether all is well."""
    ledger = Ledger(folder)
    with bars.bar("checking", sum(ledger.counts().values())) as advance:
        wrong = audit.verify(ledger, advance)
    ledger.close()
    if as_json:
        cli_output.document({"wrong": list(wrong)})
    else:
        for text in wrong:
            cli_output.line(text)
        cli_output.line(f"{len(wrong)} things are wrong" if wrong else "all is as the ledger says")
    return not wrong


def _planned(flags: BatchFlags, engine: Engine) -> Plan:
    if flags.jobs is None:
        raise BadRequest("nothing to plan: name a file of jobs")
    content = sources.read(flags.jobs)
    own = [axes.checked(name, field, values) for name, one in content.axes.items() for field, values in one.items()]
    both = sorted({axis.name for axis in own} & {axis.name for axis in flags.axes})
    if both:
        raise BadRequest(f"axis {both[0]} is given in {flags.jobs.name} and as --{both[0]}")
    return plan(engine, content.drafts, sorted([*own, *flags.axes], key=lambda axis: axis.name))


def _open(flags: BatchFlags, engine: Engine) -> Ledger:
    """Return the folder's ledger with all jobs in it; nothing is written unless all of them are sound."""
    if flags.jobs is None:
        return Ledger(flags.out)
    from pipelines.jobs.grids import Content

    planned = _planned(flags, engine)
    check_folder(flags.out)
    flags.out.mkdir(parents=True, exist_ok=True)
    _check_room(planned, flags.out)
    ledger = Ledger(flags.out, create=True)
    ledger.add(together(planned.jobs))
    for grid in planned.grids:
        ledger.add_grid(Content.of(grid).model_dump_json())
    if planned.repeated:
        cli_output.notice(f"{planned.repeated} jobs are asked for more than once; each is rendered once")
    return ledger


def _check_room(planned: Plan, folder: Path) -> None:
    requests = [job.request for job in planned.jobs]
    wanted = sum((one.width or 0) * (one.height or 0) * 3 + _RECORD for one in requests)
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise NoRoom(f"{len(requests)} pictures may take {wanted >> 20} MB; {folder} has {free >> 20} MB left")


def _work(flags: BatchFlags, engine: Engine, ledger: Ledger, helpers: Sequence[BaseProcess]) -> None:
    from pipelines.jobs import worker

    _share_cores(flags.workers)
    total, done = sum(ledger.counts().values()), _ended(ledger)
    with bars.bar("pictures", total) as advance:
        advance(done)
        shown = done

        def on_event(event: worker.Event) -> None:
            nonlocal shown
            if flags.as_json:
                told = {"event": event.what, "file": event.file, "seconds": event.seconds, "error": event.error}
                print(json.dumps({key: value for key, value in told.items() if value is not None}), flush=True)
            elif event.error is not None:
                cli_output.notice(f"{event.file} failed: {cli_output.printable(event.error)}")
            now = _ended(ledger) if helpers else shown + 1
            advance(now - shown)
            shown = now

        worker.work(flags.out, engine, on_event)
        for helper in helpers:
            helper.join()


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


@contextmanager
def _helpers(flags: BatchFlags) -> Iterator[list[BaseProcess]]:
    """Start the other processes, and stop them if this one is stopped."""
    context = get_context("spawn")
    helpers: list[BaseProcess] = [
        context.Process(target=help_out, args=(flags.out, flags.workers)) for _ in range(flags.workers - 1)
    ]
    for helper in helpers:
        helper.start()
    try:
        yield helpers
    finally:
        for helper in helpers:
            if helper.is_alive():
                helper.terminate()
            helper.join()


def help_out(folder: Path, workers: int) -> None:
    """Be one of several processes of a batch: the processor's cores are shared among them."""
    from pipelines.jobs import worker

    cli_output.quiet_libraries()
    _share_cores(workers)
    with _stoppable():
        with suppress(KeyboardInterrupt):  # the process that started this one tells of the stop
            worker.work(folder, Engine(), lambda _: None)


def _share_cores(workers: int) -> None:
    import torch

    if workers > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // workers))


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let a request to end arrive as the keyboard's does, so that what was claimed is given back."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
