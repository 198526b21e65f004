"""What the commands `eval judge` and `eval study` do, once their options are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.commands import known
from eval.intervals import Interval
from eval.judge import judging, protocols, ratings, study, verdicts
from eval.judge.endpoint import Endpoint, Settings
from eval.measuring import Measured
from eval.summary import Figures
from pipelines import bars, cli_output
from pipelines.cli_engine import EngineFlags


@dataclass(frozen=True)
class JudgeFlags:
    """The options of `eval judge` as typed."""

    folder: Path
    url: str
    model: str
    protocol: str
    against: str | None
    methods: str | None
    yes: bool
    by: EngineFlags = EngineFlags()


def judge(flags: JudgeFlags, agreed: Callable[[str], bool]) -> bool:
    """Lay every pair before a judge; the cost is told and agreed to first. Return whether all could be read."""
    protocol = protocols.get(flags.protocol)
    endpoint = Endpoint(Settings(flags.url, flags.model), flags.folder / verdicts.FOLDER / "answers")
    measured, some = _pairs(flags.folder, flags.methods, flags.against, flags.by)
    court = judging.Court(endpoint, protocol, measured)
    cost = court.price(some)
    if cost.requests and not flags.yes and not agreed(cost.told):
        return False
    cli_output.notice(cost.told)
    with bars.bar("pairs", len(some)) as advance:
        judged = court.judge(some, flags.model, advance)
    cli_output.line(verdicts.table(judged).markdown(level=2))
    cli_output.line(str(verdicts.write(judged, flags.folder)))
    return not judged.dropped


def study_export(folder: Path, methods: str | None, against: str | None, by: EngineFlags) -> None:
    """Write the page of a study with people."""
    _, some = _pairs(folder, methods, against, by)
    cli_output.line(str(study.export(some, folder, folder / study.FOLDER)))
    cli_output.notice(f"{len(some)} pairs; keep {folder / study.FOLDER / 'key.json'} to yourself")


def _pairs(
    folder: Path, methods: str | None, against: str | None, by: EngineFlags
) -> tuple[Measured, list[judging.Pair]]:
    """Return a run whose pictures are there, without measuring them, and the pairs that are to be compared."""
    measured = known(folder, by.engine(), ("cost",))  # which looks at no picture
    labels = [one.label for one in measured.run.columns]
    wanted = [one.strip() for one in methods.split(",") if one.strip()] if methods else labels
    return measured, judging.pairs(measured, against or Figures(measured).baseline, wanted)


def study_import(folder: Path, files: Sequence[Path], as_json: bool) -> None:
    """Read votes and rate the methods."""
    found = ratings.rate(study.votes(folder / study.FOLDER, files))
    rows: list[cli_output.Row] = [
        {
            "method": one.method,
            "rating": round(one.rating.mean, 4),
            **dict(zip(("low", "high"), _rounded(one.rating), strict=True)),
            "votes": one.votes,
        }
        for one in found
    ]
    if as_json:
        cli_output.document({"ratings": [dict(row) for row in rows]})
    else:
        cli_output.table(rows, ("method", "rating", "low", "high", "votes"))


def _rounded(one: Interval) -> tuple[float | None, float | None]:
    """Return the ends of an interval to four places; None where there are none."""
    return (None, None) if one.ends is None else (round(one.ends[0], 4), round(one.ends[1], 4))
