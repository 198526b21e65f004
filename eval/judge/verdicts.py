"""A judge's verdicts as a file, and as tables of a report."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from eval import outputs
from eval.errors import BadRun
from eval.judge import protocols
from eval.judge.judging import Judged, lines, position_bias
from eval.page.contests import LEVEL, about_p, p_value
from eval.page.elements import Part, Td

FOLDER = "judge"
_LONGEST = 100  # characters of a file's name
_AGAIN = "remove it and judge again: answers are kept"


def write(judged: Judged, folder: Path) -> Path:
    """Write all verdicts of a protocol and model; return the file."""
    asked = f"{judged.protocol}-{judged.model}"
    name = re.sub(r"[^\w.-]", "_", asked)[:_LONGEST]
    if name != asked:  # else two models could come to one file
        name = f"{name}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"
    path = folder / FOLDER / f"{name}.json"
    outputs.write_summary(judged, path)
    return path


def read(folder: Path) -> list[Judged]:
    """Return the verdicts that a folder of results holds.

    Raises:
        BadRun: A file is damaged, or of another version.
    """
    found: list[Judged] = []
    for path in sorted((folder / FOLDER).glob("*.json")):
        judged = outputs.read(Judged, path, _AGAIN)
        kinds = {frozenset(part) for one in judged.verdicts for part in (one.scores_a, one.scores_b, one.first)}
        if len(kinds) > 1 or frozenset() in kinds:
            raise BadRun(f"{path}: its verdicts have different dimensions; {_AGAIN}")
        found.append(judged)
    return found


def table(judged: Judged) -> Part:
    """Tabulate means, wins, ties and losses."""
    known = lines(judged)
    rows = [
        [
            Td(f"{one.method} against {one.other}"),
            Td(one.dimension),
            Td(f"{one.mean:.2f} : {one.mean_other:.2f}"),
            *(Td(f"{100 * part:.1f} %") for part in (one.contest.win, one.contest.tie, one.contest.loss)),
            Td(p_value(one.corrected), best=one.corrected < LEVEL),
        ]
        for one in known
    ] or [[Td("no answer could be read"), *[Td("–")] * 6]]
    bias = ", ".join(f"{key} {value:+.2f}" for key, value in position_bias(judged).items())
    note = (
        f"By {judged.model}, protocol {judged.protocol}: {len(judged.verdicts)} pairs in both orders, "
        f"{judged.dropped} dropped without readable scores. "
        f"Points more for being shown first: {bias or 'unknown'}. p corrected by Holm. {_wording(judged.protocol)}"
    )
    if known:
        note += f" {about_p(min(one.contest.sets for one in known))}"
    heads = ("pair", "dimension", "means", "win", "tie", "loss", "p, corrected")
    return Part(f"A judge's view: {judged.model}", heads, rows, note)


def _wording(protocol: str) -> str:
    source = protocols.get(protocol).source if protocol in protocols.names() else "another version of Medley"
    return (
        f"The dimensions and deductions are those of {source}; the wording is Medley's own, and the judge another, so "
        "that levels are not comparable with published ones."
    )
