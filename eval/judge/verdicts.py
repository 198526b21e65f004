"""A judge's verdicts as a file, and as tables of a report."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import TypeAdapter

from eval import outputs
from eval.judge.judging import Judged, lines, position_bias
from eval.page.elements import Part, Td

FOLDER = "judge"


def write(judged: Judged, folder: Path) -> Path:
    """Write all verdicts of a protocol and model; return the file."""
    name = re.sub(r"[^\w.-]", "_", f"{judged.protocol}-{judged.model}")
    path = folder / FOLDER / f"{name}.json"
    outputs.write_summary(judged, path)
    return path


def read(folder: Path) -> list[Judged]:
    """Return the verdicts that a folder of results holds."""
    adapter = TypeAdapter(Judged)
    return [adapter.validate_json(path.read_bytes()) for path in sorted((folder / FOLDER).glob("*.json"))]


def table(judged: Judged) -> Part:
    """Tabulate means, wins, ties and losses."""
    rows = [
        [
            Td(f"{one.method} against {one.other}"),
            Td(one.dimension),
            Td(f"{one.mean:.2f} : {one.mean_other:.2f}"),
            *(Td(f"{100 * part:.1f} %") for part in (one.contest.win, one.contest.tie, one.contest.loss)),
            Td(f"{one.corrected:.4f}", best=one.corrected < 0.05),
        ]
        for one in lines(judged)
    ] or [[Td("no answer could be read"), *[Td("–")] * 6]]
    bias = ", ".join(f"{key} {value:+.2f}" for key, value in position_bias(judged).items())
    note = (
        f"{judged.model}, protocol {judged.protocol}: {len(judged.verdicts)} pairs in both orders, "
        f"{judged.dropped} dropped without readable scores. "
        f"Points more for being shown first: {bias or 'unknown'}. p corrected by Holm."
    )
    return Part("A judge's view", ("pair", "dimension", "means", "win", "tie", "loss", "p, corrected"), rows, note)
