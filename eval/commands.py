"""What the commands of `eval` do, once their options are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from composer.errors import UnknownChoice
from eval import columns, measuring, readiness, references, revisions, running, suites
from eval.measuring import Measured
from eval.metrics import registry
from eval.metrics.batch import Tools
from eval.running import Overrides, Run, Wish
from eval.suites.model import Suite
from pipelines import bars, cli_batch, cli_output, places
from pipelines.cli_engine import EngineFlags
from pipelines.cluster import connect
from pipelines.engine import Engine
from pipelines.jobs.ledger import Ledger
from pipelines.jobs.planning import Job, together
from pipelines.jobs.states import State

__all__ = ["BenchmarkFlags", "Overrides", "RunFlags", "benchmark", "check", "price", "report", "run"]


@dataclass(frozen=True)
class RunFlags:
    """The options of `eval run` as typed."""

    suite: str
    methods: str
    out: Path
    sets: int | None
    seeds: int
    mapped: Path | None
    overrides: Overrides
    clip: str | None
    metrics: tuple[str, ...]
    references: int
    workers: int
    retry_failed: bool
    ray: str | None = None  # address of a cluster
    renew: tuple[str, ...] = ()  # methods whose pictures by other code are made anew
    dino: str | None = None
    by: EngineFlags = EngineFlags()


@dataclass(frozen=True)
class BenchmarkFlags:
    """The options of `eval benchmark` as typed."""

    methods: str
    out: Path
    docs: Path
    sets: int | None  # of each suite
    seeds: int
    references: int
    workers: int
    retry_failed: bool
    ray: str | None = None  # address of a cluster
    renew: tuple[str, ...] = ()  # methods whose pictures by other code are made anew
    suites: tuple[str, ...] = ()  # none: every one of the embedded world
    by: EngineFlags = EngineFlags()


def run(flags: RunFlags, as_json: bool) -> bool:
    """Render what is missing, measure it, write the report; return whether every picture is there."""
    measured = rendered(flags, flags.by.engine())
    if measured is None:
        return False
    from eval.page import report as pages

    written = pages.write([measured], flags.out / running.PAGE)
    if as_json:
        cli_output.document({"report": str(written), "missing": dict(measured.missing)})
    else:
        cli_output.line(f"report: {written}")
    return not measured.missing


def rendered(flags: RunFlags, engine: Engine) -> Measured | None:
    """Render what is missing and measure it; return None if it was stopped."""
    wanted, metrics, renewed = ready(flags)
    running.jobs(wanted, engine)  # the user's mistakes in suites and methods, before anything is fetched or written
    readiness.try_viewers(wanted, metrics)
    entries = running.plan(wanted, engine)
    if renewed:
        cli_output.notice(f"{revisions.renew(wanted, entries, renewed)} pictures by other code are rendered anew")
    folders = [wanted.pictures]
    if wanted.wish.references:
        references.plan(wanted, engine)
        folders.append(references.folder(wanted))
    for folder in folders:
        batch = cli_batch.BatchFlags(None, folder, (), flags.workers, flags.retry_failed, False, flags.ray, flags.by)
        cli_batch.run(batch, engine)
        if _unfinished(folder):
            return None
    measured = measure(wanted, engine, metrics)
    _tell(measured)
    return measured


def ready(flags: RunFlags) -> tuple[Run, list[registry.Metric], tuple[str, ...]]:
    """Return what is to be run, measured and rendered anew; all that can be refused without a model is refused here."""
    if flags.ray is not None:
        connect.check(flags.ray)
    wanted = running.opened(flags.out, wish(flags))
    metrics, told = readiness.metrics(wanted, flags.metrics)
    for text in told:
        cli_output.notice(text)
    return wanted, metrics, revisions.checked(wanted, flags.renew)


def benchmark(flags: BenchmarkFlags) -> bool:
    """Run embedded suites, write one page about all, and renew the documentation; return whether all is there."""
    places.check_folder(flags.out)
    places.check_folder(flags.docs, "--docs")
    names = flags.suites or tuple(suites.EMBEDDED)
    for name in names:
        if name not in suites.EMBEDDED:
            raise UnknownChoice("suite of the benchmark", name, suites.EMBEDDED)
    runs = [of_suite(suites.EMBEDDED[name](), flags) for name in names]
    labels = {label for one in runs for label in one.methods.split(",")} | {revisions.ALL}
    for label in flags.renew:
        if label not in labels:
            raise UnknownChoice("method to renew", label, sorted(labels))
    for asked in runs:
        ready(asked)  # all of them, before the first is rendered
    measured: list[Measured] = []
    engine = flags.by.engine()  # one for all: each would keep a model with what it prepared
    for asked in runs:
        one = rendered(asked, engine)
        if one is None:
            return False
        measured.append(one)
    _write(measured, flags.out / running.PAGE, flags.docs)
    return not any(one.missing for one in measured)


def of_suite(suite: Suite, flags: BenchmarkFlags) -> RunFlags:
    """Return what the benchmark runs of one suite: as many sets in all, whatever sizes there are."""
    labels = [one.label for one in columns.parse_all(flags.methods, suite, leave_out=True)]
    return RunFlags(
        suite=suite.name,
        methods=",".join(labels),
        out=flags.out / suite.name,
        sets=None if flags.sets is None else -(-flags.sets // len(suite.sizes)),
        seeds=flags.seeds,
        mapped=None,
        overrides=Overrides(),
        clip=None,
        metrics=(),
        references=flags.references,
        workers=flags.workers,
        retry_failed=flags.retry_failed,
        ray=flags.ray,
        renew=tuple(one for one in flags.renew if one in (*labels, revisions.ALL)),
        by=flags.by,
    )


def known(folder: Path, engine: Engine, names: Sequence[str] = ()) -> Measured:
    """Return what a folder holds, measured by the metrics named, or by all usual ones."""
    one = running.known(folder)
    return measure(one, engine, measuring.chosen(one, names))


def price(flags: RunFlags, as_json: bool) -> None:
    """Say what a run would take, without loading a model or writing anything."""
    engine = flags.by.engine()
    wanted, metrics, _ = ready(flags)
    flags.by.check_runtime()
    own = running.jobs(wanted, engine)
    rows = [_cost(label, together(jobs), engine) for label, jobs in own.items()]
    alone = references.jobs(wanted, engine)
    more = [_cost("each LoRA alone", together([job for some in alone.values() for job in some]), engine)]
    if any(metric.name == "effort" for metric in metrics):
        firsts = {case.name for case in wanted.suite.cases(1)}
        both = [pair for some in own.values() for pair in zip(wanted.cases, some, strict=True)]
        again = [[job] for case, job in both if case.name in firsts]
        more.append(_cost("once more, to count effort", again, engine))
    more = [row for row in more if row["pictures"]]
    by = {metric.by: wanted.measured_by(metric.by) for metric in metrics if metric.by in registry.CHOSEN}
    if as_json:
        told: dict[str, JsonValue] = {"methods": [dict(row) for row in rows], "more": [dict(row) for row in more]}
        cli_output.document({"dry_run": True, "suite": wanted.suite.name, "measured_by": dict(by), **told})
    else:
        cli_output.table([*rows, *more], ("method", "pictures", "unet_passes", "unet_calls"))
        cli_output.line(f"measured by: {', '.join(dict.fromkeys(wanted.measured_by(metric.by) for metric in metrics))}")


def _cost(label: str, goes: Sequence[Sequence[Job]], engine: Engine) -> cli_output.Row:
    """Return what some pictures take that are rendered in these goes."""
    taken = [engine.dry_run_many([job.request for job in go]) for go in goes]
    passes, calls = sum(one.unet_passes for one in taken), sum(one.unet_calls for one in taken)
    return {"method": label, "pictures": sum(map(len, goes)), "unet_passes": passes, "unet_calls": calls}


def report(folders: Sequence[Path], page: Path | None, docs: Path | None, by: EngineFlags | None = None) -> None:
    """Write the page of folders that were run, and the document if asked; pictures that came since are measured."""
    place = page or folders[0] / running.PAGE
    places.check_file(place, "--page")
    if docs is not None:
        places.check_folder(docs, "--docs")
    engine = (by or EngineFlags()).engine()
    measured = [known(folder, engine) for folder in dict.fromkeys(folders)]
    for one in measured:
        _tell(one)
    _write(measured, place, docs)


def wish(flags: RunFlags) -> Wish:
    """Return what is typed as a wish."""
    mapped = str(flags.mapped) if flags.mapped else None
    suite = suites.load(flags.suite, flags.mapped)
    return Wish(
        suite=flags.suite,
        mapped=mapped,
        sets=flags.sets,
        seeds=flags.seeds,
        methods=tuple(one.label for one in columns.parse_all(flags.methods, suite)),
        overrides=flags.overrides,
        clip=flags.clip,
        references=flags.references,
        dino=flags.dino,
        dtype=flags.by.runtime.dtype,
    )


def measure(wanted: Run, engine: Engine, metrics: Sequence[registry.Metric]) -> Measured:
    """Measure a run's pictures, with a bar."""
    tools = Tools(wanted.wish.clip, references.load(wanted, engine), engine, wanted.wish.dino)
    entries = running.placed(wanted, engine)
    total = sum(1 for one in entries.values() if one.state is State.DONE) + len(wanted.cases) * wanted.suite.drawn
    with bars.bar("measuring", total) as advance:
        return measuring.measure(wanted, entries, metrics, tools, advance)


def check(suite: str, sets: int | None, clip: str | None, as_json: bool) -> bool:
    """Hold the metrics against the truth; return whether every one ranks it first."""
    from eval import clip as clips
    from eval import sanity

    if (told := clips.check(clip)) is not None:
        cli_output.notice(told)
    found = sanity.run(suites.load(suite), sets, Tools(clip))
    if as_json:
        lines: list[JsonValue] = [dict(row) for row in found.rows()]
        cli_output.document({"pictures": found.pictures, "agreement": found.agreement, "measures": lines})
    else:
        cli_output.table(
            found.rows(), ("measure", "measured_by", "truth", "taken_out", "other", "truth_first", "named")
        )
        cli_output.line(f"presence agrees with the scenes in {100 * found.agreement:.2f} % of {found.asked} questions")
    return found.sound


def _write(measured: Sequence[Measured], page: Path, docs: Path | None) -> None:
    """Write the page about some runs, and renew the document in a folder of documentation."""
    from eval.page import document, report

    cli_output.line(str(report.write(measured, page)))
    if docs is not None:
        cli_output.line(str(document.write(measured, docs)))


def _tell(measured: Measured) -> None:
    """Tell what the figures lack, and which code made the pictures."""
    for label, count in measured.missing.items():
        cli_output.notice(f"{measured.run.folder}: {label}: {count} pictures are missing")
    for name, count in measured.broken.items():
        cli_output.notice(
            f"{measured.run.folder}: {name} is no finite number for {count} pictures, which it leaves out"
        )
    for text in revisions.told(revisions.makers(measured)):
        cli_output.notice(f"{measured.run.folder}: {text}; --renew METHOD,… makes anew what other code made")


def _unfinished(folder: Path) -> bool:
    ledger = Ledger(folder)
    counts = ledger.counts()
    ledger.close()
    return bool(counts[State.WAITING] + counts[State.RUNNING])
