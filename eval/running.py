"""Rendering a suite through the batch ledger: stopped, it goes on; a method added later is all that is rendered.

A picture's last bits depend on the company it is rendered in. So the cases of one column make up its goes, in the order
of their digests: what other columns there are, and in which order anything is written or asked for, changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import Field

from composer.request import Frozen
from eval import columns, outputs, suites, viewers
from eval.columns import Column
from eval.errors import BadRun
from eval.suites.model import Case, Composition, Suite
from pipelines.engine import Engine
from pipelines.jobs.entries import Entry
from pipelines.jobs.identity import digest
from pipelines.jobs.ledger import Ledger
from pipelines.jobs.planning import Job, together

FILE = "run.json"
PAGE = "report.html"
PICTURES = "pictures"


class Overrides(Frozen):
    """Settings of the whole run in place of the suite's own."""

    model: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    scheduler: str | None = None


class Wish(Frozen):
    """All that a folder of results is to hold."""

    suite: str  # name or file
    mapped: str | None
    sets: int | None = Field(ge=1)  # of each size; None: all
    seeds: int = Field(ge=1, le=1000)
    methods: tuple[str, ...]
    overrides: Overrides
    clip: str | None  # of CLIPScore; None: the embedded one, where it knows the model's pictures
    references: int = Field(default=0, ge=0, le=64)  # pictures of each LoRA alone
    dino: str | None = None  # None: nothing is asked of one
    dtype: str = "auto"  # in which the pictures are computed


@dataclass(frozen=True, eq=False)
class Run:
    """A wish, with what it names."""

    folder: Path
    wish: Wish
    suite: Suite
    columns: tuple[Column, ...]
    cases: tuple[Case, ...]

    @property
    def pictures(self) -> Path:
        return self.folder / PICTURES

    @property
    def models(self) -> tuple[str, ...]:
        """The models that render it."""
        return tuple(dict.fromkeys(one.settings.model for one in self.suite.sets))

    def measured_by(self, by: str) -> str:
        """Return what measures, in words; "clip" and "dino" are those that the run names."""
        if by == "clip":
            return viewers.clip_name(self.wish.clip)
        return viewers.dino_name(self.wish.dino) if by == "dino" and self.wish.dino else by


def opened(folder: Path, wish: Wish) -> Run:
    """Return a run: what the folder holds already, and what is wished for in addition."""
    if (folder / FILE).is_file():
        wish = _joined(read(folder), wish, folder)
    return _run(folder, wish)


def known(folder: Path) -> Run:
    """Return the run that a folder holds."""
    return _run(folder, read(folder))


def read(folder: Path) -> Wish:
    """Return what a folder of results is to hold."""
    path = folder / FILE
    if not path.is_file():
        raise BadRun(f"{folder} holds no {FILE}; `eval run SUITE --methods … --out {folder}` writes it")
    return outputs.read(Wish, path, "begin another folder")


def jobs(run: Run, engine: Engine) -> dict[str, list[Job]]:
    """Return the jobs of every column in the order of its cases; all the user's mistakes are found here."""
    return {column.label: [_job(engine, column, case) for case in run.cases] for column in run.columns}


def plan(run: Run, engine: Engine) -> dict[tuple[str, str], Entry]:
    """Write the wish and all jobs to the folder; return each case's job by column and case."""
    found = jobs(run, engine)
    run.pictures.mkdir(parents=True, exist_ok=True)
    outputs.write_text(run.wish.model_dump_json(indent=1) + "\n", run.folder / FILE)
    ledger = Ledger(run.pictures, create=True)
    try:
        for some in found.values():
            ledger.add(together(sorted(some, key=lambda job: job.digest)))
        return _placed(run, found, ledger)
    finally:
        ledger.close()


def placed(run: Run, engine: Engine) -> dict[tuple[str, str], Entry]:
    """Return each case's job by column and case, as far as the ledger has it."""
    ledger = Ledger(run.pictures)
    try:
        return _placed(run, jobs(run, engine), ledger)
    finally:
        ledger.close()


def _placed(run: Run, found: dict[str, list[Job]], ledger: Ledger) -> dict[tuple[str, str], Entry]:
    entries = {one.digest: one for one in ledger.entries()}
    return {
        (label, case.name): entries[job.digest]
        for label, some in found.items()
        for case, job in zip(run.cases, some, strict=True)
        if job.digest in entries
    }


def _job(engine: Engine, column: Column, case: Case) -> Job:
    resolved = engine.resolve(column.request(case))
    return Job(digest(resolved), resolved.request)


def _run(folder: Path, wish: Wish) -> Run:
    suite = overridden(suites.load(wish.suite, Path(wish.mapped) if wish.mapped else None), wish.overrides)
    chosen = [columns.parse(label) for label in wish.methods]
    columns.check(chosen, suite)
    return Run(folder, wish, suite, tuple(chosen), suite.cases(wish.sets, wish.seeds))


def overridden(suite: Suite, overrides: Overrides) -> Suite:
    """Return the suite with the run's settings in place of its own."""
    given = overrides.model_dump(exclude_none=True)
    return Suite(suite.name, suite.about, tuple(_with(one, given) for one in suite.sets)) if given else suite


def _with(one: Composition, given: dict[str, object]) -> Composition:
    return replace(one, settings=one.settings.model_copy(update=given))


def _joined(there: Wish, wish: Wish, folder: Path) -> Wish:
    """Return both wishes together; what would make the pictures incomparable is refused."""
    for name in ("suite", "mapped", "overrides", "dtype"):
        before, now = getattr(there, name), getattr(wish, name)
        if before != now:
            raise BadRun(f"{folder} was begun with {name} {before}, not {now}; use another folder")
    sets = None if None in (there.sets, wish.sets) else max(there.sets or 0, wish.sets or 0)
    more = {name: max(getattr(there, name), getattr(wish, name)) for name in ("seeds", "references")}
    methods = tuple(dict.fromkeys((*there.methods, *wish.methods)))
    kept = {name: getattr(wish, name) or getattr(there, name) for name in ("clip", "dino")}  # unless another is named
    return wish.model_copy(update={"sets": sets, "methods": methods, **more, **kept})
