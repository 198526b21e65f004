"""From drafts to a plan: requests with nothing left open, file names, and which jobs share UNet calls.

A picture's last bits depend on the company that it is rendered in, so who shares a call is decided here, written to
the ledger, and never by who happens to be waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from composer.request import RenderRequest, parse_request
from lora_zoo.errors import ZooError
from pipelines.batching import TOGETHER
from pipelines.engine import Engine
from pipelines.jobs.axes import Axis, expand
from pipelines.jobs.errors import BadJobs
from pipelines.jobs.identity import digest
from pipelines.jobs.paper import paper
from pipelines.jobs.sources import Draft, plain

_T = TypeVar("_T")
_SHOWN = 20  # mistakes told at once
MOST = 1_000_000


@dataclass(frozen=True)
class Job:
    """One picture to make."""

    digest: str
    request: RenderRequest  # resolved


@dataclass(frozen=True)
class Grid:
    """Pictures that belong on one labelled sheet."""

    title: str
    axes: tuple[Axis, ...]
    cells: tuple[tuple[tuple[int, ...], str], ...]  # place on the axes, digest of the job


@dataclass(frozen=True)
class Plan:
    """What a file of jobs asks for. A request that it holds twice is one job."""

    jobs: tuple[Job, ...]
    grids: tuple[Grid, ...]
    repeated: int


def plan(engine: Engine, drafts: Sequence[Draft], axes: Sequence[Axis]) -> Plan:
    """Resolve all drafts; all mistakes are told in one error, before any work."""
    jobs: dict[str, Job] = {}
    grids: list[Grid] = []
    wrong: list[str] = []
    count = 0
    for draft in drafts:
        for one in _told(wrong, lambda draft=draft: list(plain(draft))) or ():
            placed = _told(wrong, lambda one=one: list(expand(one, axes))) or ()
            count += len(placed)
            if count > MOST:
                raise BadJobs(f"more than {MOST} jobs; split the file")
            cells: list[tuple[tuple[int, ...], str]] = []
            for cell in placed:
                job = _told(wrong, lambda cell=cell: _job(engine, cell.draft))
                if job is not None:
                    jobs.setdefault(job.digest, job)
                    cells.append((cell.place, job.digest))
            if axes:
                grids.append(Grid(_title(one), tuple(axes), tuple(cells)))
                _told(wrong, lambda: _check_paper(grids[-1], jobs))
    if wrong:
        more = f"\n… and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise BadJobs("nothing was started:\n" + "\n".join(wrong[:_SHOWN]) + more)
    return Plan(tuple(jobs.values()), tuple(grids), count - len(jobs))


def together(jobs: Sequence[Job]) -> list[list[Job]]:
    """Return the goes: jobs of one model and size, similar in length, that fill UNet calls together."""
    piles: dict[tuple[object, ...], list[Job]] = {}
    for job in jobs:
        one = job.request
        piles.setdefault((one.model, one.width, one.height, one.num_inference_steps), []).append(job)
    return [pile[start : start + TOGETHER] for pile in piles.values() for start in range(0, len(pile), TOGETHER)]


def _told(wrong: list[str], act: Callable[[], _T]) -> _T | None:
    """Do something; a mistake is noted, not raised, so that all of a file's are told together."""
    try:
        return act()
    except ZooError as error:
        wrong.append(str(error))
        return None


def _job(engine: Engine, draft: Draft) -> Job:
    try:
        resolved = engine.resolve(parse_request(draft.data))
        return Job(digest(resolved), resolved.request)
    except ZooError as error:
        raise BadJobs(f"{draft.where}: {error}") from error


def _check_paper(grid: Grid, jobs: Mapping[str, Job]) -> None:
    """Refuse a grid whose sheet could not be drawn, before its pictures are made."""
    sizes = [_size(jobs[digest].request) for _, digest in grid.cells]
    counts = [*(len(axis.values) for axis in grid.axes), 1, 1]
    if sizes:
        cell = (max(width for width, _ in sizes), max(height for _, height in sizes))
        paper(grid.title, counts[0], counts[1] * counts[2], cell)


def _size(request: RenderRequest) -> tuple[int, int]:
    scale = request.hires.scale if request.hires else 1.0
    return round((request.width or 0) * scale), round((request.height or 0) * scale)


def _title(draft: Draft) -> str:
    return str(draft.data.get("prompt", "")) or draft.where
