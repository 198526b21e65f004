"""What the commands `eval judge` and `eval study` do, once their options are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.commands import known
from eval.intervals import Interval
from eval.judge import judging, protocols, ratings, study, verdicts
from eval.judge.endpoint import Endpoint, Settings
from eval.summary import Figures
from pipelines import bars, cli_output
from pipelines.engine import Engine


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


def judge(flags: JudgeFlags, agreed: Callable[[str], bool]) -> bool:
    """Lay every pair before a judge; the cost is told and agreed to first. Return whether all could be read."""
    measured = known(flags.folder, Engine())
    labels = [one.label for one in measured.run.columns]
    other = flags.against or Figures(measured).baseline
    methods = flags.methods.split(",") if flags.methods else labels
    some = judging.pairs(measured, other, methods)
    endpoint = Endpoint(Settings(flags.url, flags.model), flags.folder / verdicts.FOLDER / "answers")
    court = judging.Court(endpoint, protocols.get(flags.protocol), measured)
    cost = court.price(some)
    told = f"{cost.pairs} pairs, {cost.requests} requests not answered yet, about {cost.tokens} tokens and the answers"
    if cost.requests and not flags.yes and not agreed(told):
        return False
    cli_output.notice(told)
    with bars.bar("pairs", len(some)) as advance:
        judged = court.judge(some, flags.model, advance)
    cli_output.line(verdicts.table(judged).markdown(level=2))
    cli_output.line(str(verdicts.write(judged, flags.folder)))
    return not judged.dropped


def study_export(folder: Path, methods: str | None, against: str | None) -> None:
    """Write the page of a study with people."""
    measured = known(folder, Engine())
    labels = methods.split(",") if methods else [one.label for one in measured.run.columns]
    some = judging.pairs(measured, against or Figures(measured).baseline, labels)
    cli_output.line(str(study.export(some, folder, folder / study.FOLDER)))
    cli_output.notice(f"{len(some)} pairs; keep {folder / study.FOLDER / 'key.json'} to yourself")


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
