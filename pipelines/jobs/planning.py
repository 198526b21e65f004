"""From drafts to a plan: requests with nothing left open, file names, and which jobs share UNet calls.

A picture's last bits depend on the company that it is rendered in, so who shares a call is decided here, written to
the ledger, and never by who happens to be waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from composer.request import RenderRequest
from lora_zoo.errors import BadFile, UnknownName, ZooError
from pipelines.batching import TOGETHER
from pipelines.engine import Engine
from pipelines.jobs.axes import Axis, check_parameters, count, expand, settled
from pipelines.jobs.errors import BadJobs
from pipelines.jobs.identity import digest, fingerprint
from pipelines.jobs.keys import request_of
from pipelines.jobs.paper import paper
from pipelines.jobs.seeds import Seeds
from pipelines.jobs.sources import Draft, count_of, plain
from pipelines.resolve import Resolved

_T = TypeVar("_T")
_SHOWN = 20  # mistakes told at once
_KEPT = 4096  # requests that are remembered to find those alike
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


def plan(engine: Engine, drafts: Sequence[Draft], axes: Sequence[Axis], seeds: Seeds | None = None) -> Plan:
    """Resolve all drafts; all mistakes are told in one error, before any work.

    Args:
        engine: Resolves the requests.
        drafts: The jobs as they were written.
        axes: What each of them is repeated over.
        seeds: Draws seeds for the jobs that ask for any; None: each plan draws others.

    Raises:
        BadJobs: What is wrong with the jobs, or that they are more than can be planned at once; none is expanded then.
    """
    seeds = seeds or Seeds()
    wrong: list[str] = []
    _check_count(drafts, axes, wrong)
    over = settled(axes, seeds)
    planner = _Planner(engine, over, wrong)
    for draft in drafts:
        _told(wrong, lambda draft=draft: check_parameters(draft, over))
        for one in _told(wrong, lambda draft=draft: list(plain(draft, seeds))) or ():
            planner.take(one)
    if wrong:
        more = f"\n… and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise BadJobs("nothing was started:\n" + "\n".join(wrong[:_SHOWN]) + more)
    return Plan(tuple(planner.jobs.values()), tuple(planner.grids), planner.count - len(planner.jobs))


class _Planner:
    """Resolves drafts one after another. Jobs that differ by their seeds only are resolved once."""

    def __init__(self, engine: Engine, axes: Sequence[Axis], wrong: list[str]) -> None:
        self.jobs: dict[str, Job] = {}
        self.grids: list[Grid] = []
        self.count = 0
        self._engine, self._axes, self._wrong = engine, axes, wrong
        self._known: dict[str, Resolved] = {}  # by what is asked for, but for its seed
        self._models: dict[Path, str] = {}  # fingerprints

    def take(self, draft: Draft) -> None:
        """Add a draft with a seed of its own, at all places of the axes; a mistake is noted."""
        cells: list[tuple[tuple[int, ...], str]] = []
        try:
            for cell in expand(draft, self._axes):
                self.count += 1
                job = _told(self._wrong, lambda cell=cell: self._job(cell.draft))
                if job is not None:
                    self.jobs.setdefault(job.digest, job)
                    cells.append((cell.place, job.digest))
        except ZooError as error:
            self._wrong.append(str(error))
        if self._axes:
            grid = Grid(_title(draft), tuple(self._axes), tuple(cells))
            self.grids.append(grid)
            _told(self._wrong, lambda: _check_paper(grid, self.jobs))

    def _job(self, draft: Draft) -> Job:
        request = request_of(draft.data, draft.where)
        try:
            resolved = self._resolved(request)
        except (UnknownName, BadFile) as error:
            raise BadJobs(f"{draft.where}: {error}{draft.hint and f' ({draft.hint})'}") from error
        except ZooError as error:
            raise BadJobs(f"{draft.where}: {error}") from error
        path = resolved.spec.path
        if path not in self._models:
            self._models[path] = fingerprint(path)
        return Job(digest(resolved, self._models[path]), resolved.request)

    def _resolved(self, request: RenderRequest) -> Resolved:
        if _chooses(request):
            return self._engine.resolve(request)
        asked = request.model_dump_json(exclude={"seed"})
        if asked not in self._known:
            if len(self._known) == _KEPT:
                self._known.clear()
            self._known[asked] = self._engine.resolve(request)
        known = self._known[asked]
        return replace(known, request=known.request.model_copy(update={"seed": request.seed}))


def resolved_goes(engine: Engine, jobs: Sequence[Job]) -> Iterator[Sequence[Resolved]]:
    """Yield the jobs that are rendered together, resolved; goes that are alike but for seeds are one and the same."""
    asked, last = (), list[Resolved]()
    for go in together(jobs):
        wanted = tuple(job.request.model_dump_json(exclude={"seed"}) for job in go)
        if wanted != asked:
            asked, last = wanted, engine.resolve_many([job.request for job in go])
        yield last


def _check_count(drafts: Sequence[Draft], axes: Sequence[Axis], wrong: list[str]) -> None:
    """Refuse more jobs than can be planned at once, before any is expanded; a count that is none is noted later."""
    each = count(axes)
    total = each * sum(_told([], lambda draft=draft: count_of(draft)) or 0 for draft in drafts)
    if total > MOST:
        over = f", over axes of {' x '.join(f'{len(axis.values):,}' for axis in axes)} values" if axes else ""
        raise BadJobs(f"{total:,} jobs are asked for{over}; at most {MOST:,} are planned at once: split the file")


def _chooses(request: RenderRequest) -> bool:
    """Tell whether choices may be made in a request's texts by its seed."""
    places = (use.region.prompt or "" for use in request.adapters if use.region is not None)
    texts = (request.prompt, request.negative_prompt, request.undesired, *places)
    return any(sign in text for text in texts for sign in ("{", "__"))


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
