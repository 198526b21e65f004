"""How `batch` begins: a file of jobs is planned, a folder's ledger opened, and what was lost since waits again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from composer.errors import BadRequest
from pipelines import bars, cli_output
from pipelines.cli_engine import EngineFlags
from pipelines.engine import Engine
from pipelines.jobs import audit, axes, sources
from pipelines.jobs.axes import Axis
from pipelines.jobs.base import FILE
from pipelines.jobs.errors import EmptyLedger, NoRoom
from pipelines.jobs.ledger import Ledger
from pipelines.jobs.planning import Plan, plan, together
from pipelines.jobs.seeds import Seeds
from pipelines.jobs.sources import JobFile
from pipelines.places import check_folder

_RECORD = 8192  # bytes of a picture's file beyond its pixels, at most as a rule
_PNG = "png"


@dataclass(frozen=True)
class BatchFlags:
    """The options of `batch` as typed."""

    jobs: Path | None  # None: go on with what the folder's ledger holds
    out: Path
    axes: tuple[Axis, ...]
    workers: int
    retry_failed: bool
    as_json: bool
    ray: str | None = None  # address of a cluster, on each machine of which the workers are
    by: EngineFlags = EngineFlags()  # of the engine of every process
    model: str | None = None  # of jobs that name none
    method: str | None = None  # likewise
    file_format: str | None = None  # None: as the batch has


def planned(flags: BatchFlags, engine: Engine, seeds: Seeds) -> Plan:
    """Return the plan of a file of jobs; all the user's mistakes are found here."""
    if flags.jobs is None:
        raise BadRequest("nothing to plan: name a file of jobs")
    content = sources.read(flags.jobs)
    own = [axes.checked(name, field, values) for name, one in content.axes.items() for field, values in one.items()]
    both = sorted({axis.name for axis in own} & {axis.name for axis in flags.axes})
    if both:
        raise BadRequest(f"axis {both[0]} is given in {flags.jobs.name} and as --{both[0]}")
    over = sorted([*own, *flags.axes], key=lambda axis: axis.name)
    found = plan(engine, _filled(content, flags, over), over, seeds)
    _check_records(found, flags.file_format or _PNG)
    return found


def opened(flags: BatchFlags, engine: Engine) -> Ledger:
    """Return the folder's ledger with all jobs in it, and those waiting again whose pictures are not as they were.

    Nothing is written unless all jobs are sound.
    """
    ledger = Ledger(flags.out) if flags.jobs is None else _with_jobs(flags, engine)
    try:
        _tell_unknown(ledger)
        _renew_lost(ledger)
    except BaseException:
        ledger.close()
        raise
    return ledger


def _with_jobs(flags: BatchFlags, engine: Engine) -> Ledger:
    seeds = Seeds(_salt(flags.out))
    found = planned(flags, engine, seeds)
    check_folder(flags.out)
    flags.out.mkdir(parents=True, exist_ok=True)
    _check_room(found, flags.out)
    ledger = Ledger(flags.out, create=True)
    try:
        suffix = _suffix(ledger, flags.file_format)
        if seeds.used:
            kept = ledger.salt(seeds.salt)
            if kept != seeds.salt:  # another process began the same batch meanwhile
                found = planned(flags, engine, Seeds(kept))
        _write(ledger, found, suffix)
    except BaseException:
        ledger.close()
        raise
    return ledger


def _write(ledger: Ledger, found: Plan, suffix: str) -> None:
    from pipelines.jobs.grids import Content

    mended = ledger.mend(found.jobs, suffix)
    if mended:
        cli_output.notice(f"made again, since the ledger's rows of them were damaged: {audit.few(mended)}")
    ledger.add(together(found.jobs), suffix)
    for grid in found.grids:
        ledger.add_grid(Content.of(grid).model_dump_json())
    if found.repeated:
        cli_output.notice(f"{found.repeated} jobs are asked for more than once; each is rendered once")


def _filled(content: JobFile, flags: BatchFlags, over: Sequence[Axis]) -> list[sources.Draft]:
    """Return the jobs with the model and the method of the command line where they name none."""
    typed = {"model": flags.model, "method": flags.method}
    given = {key: value for key, value in typed.items() if value is not None}
    for axis in over:
        if axis.field in given:
            raise BadRequest(f"--{axis.field} is given, and axis {axis.name} goes over the same; leave one out")
    return [replace(draft, data={**given, **draft.data}) for draft in content.drafts]


def _check_records(found: Plan, name: str) -> None:
    """Refuse a format in which the record of a job has no room."""
    from pipelines import images

    chosen = images.format_named(name)
    if chosen.name != _PNG:
        for job in found.jobs:
            images.check_room(job.request, chosen)


def _suffix(ledger: Ledger, typed: str | None) -> str:
    """Return the format of a batch's pictures, which all have: the one typed, or the one that it has."""
    from pipelines import images

    there = ledger.suffix()
    wanted = images.format_named(typed).name if typed is not None else there or _PNG
    if there not in (None, wanted):
        raise BadRequest(
            f"--format {wanted}: the pictures of the batch in {ledger.folder} are {there}; give another --out"
        )
    return wanted


def _salt(folder: Path) -> str | None:
    """Return what the seeds of a batch are drawn with, if one is there that has drawn some."""
    if not (folder / FILE).is_file():
        return None
    try:
        ledger = Ledger(folder)
    except EmptyLedger:  # it is begun anew
        return None
    try:
        return ledger.salt()
    finally:
        ledger.close()


def _check_room(found: Plan, folder: Path) -> None:
    requests = [job.request for job in found.jobs]
    wanted = sum((one.width or 0) * (one.height or 0) * 3 + _RECORD for one in requests)
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise NoRoom(f"{len(requests)} pictures may take {wanted >> 20} MB; {folder} has {free >> 20} MB left")


def _tell_unknown(ledger: Ledger) -> None:
    strangers, damaged = audit.unknown(ledger), ledger.damaged()
    if strangers:
        cli_output.notice(f"not in the ledger of {ledger.folder}, and left alone: {audit.few(strangers)}")
    for row in damaged:
        cli_output.notice(f"{row.file} is left out: the row of job {row.number} is damaged: {row.why}")


def _renew_lost(ledger: Ledger) -> None:
    """Have pictures made again that are not there any more, or not as they were written."""
    with bars.bar("checking", sum(ledger.counts().values())) as advance:
        lost = audit.lost(ledger, advance)
    if lost:
        ledger.renew(list(lost))
        cli_output.notice(f"made again: {audit.few(list(lost.values()))}")
