"""A report's figures as files, one row per picture, mean and contest: CSV, JSON, and Parquet where pyarrow is there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from pydantic import JsonValue

from eval import outputs
from eval.metrics import registry
from eval.summary import Figures

Rows = Sequence[Mapping[str, JsonValue]]


def write(figures: Figures, folder: Path) -> list[Path]:
    """Write what was measured and what was made of it; return the files."""
    tables = {"pictures": _pictures(figures), "means": _means(figures), "contests": _contests(figures)}
    written: list[Path] = []
    for name, rows in tables.items():
        outputs.write_csv(rows, folder / f"{name}.csv")
        outputs.write_text(_json(rows), folder / f"{name}.json")
        written += [folder / f"{name}.csv", folder / f"{name}.json"]
        if find_spec("pyarrow") is not None and rows:
            _parquet(rows, folder / f"{name}.parquet")
            written.append(folder / f"{name}.parquet")
    return written


def _pictures(figures: Figures) -> Rows:
    rows: list[dict[str, JsonValue]] = []
    for row in figures.measured.rows:
        case = row.case
        about: dict[str, JsonValue] = {
            "suite": figures.measured.run.suite.name,
            "method": row.column,
            "set": case.set.key,
            "group": case.set.group,
            "size": case.set.size,
            "seed": case.seed,
            "prompt": case.set.prompt,
            "picture": row.file,
            "code": row.code if row.file else "",
            **{by: figures.measured.run.measured_by(by) for by in _chosen(figures)},
        }
        values: dict[str, JsonValue] = {one.name: row.values.get(one.name) for one in figures.measures}
        lost = [name for name, found in row.parts.get("presence", {}).items() if not found]
        rows.append({**about, **values, "lost": ", ".join(lost)})
    return rows


def _chosen(figures: Figures) -> list[str]:
    """Return which models of the run's choice something was measured by: "clip", "dino"."""
    used = {metric.by for metric in map(registry.get, figures.measured.metrics)}
    return [by for by in registry.CHOSEN if by in used]


def _means(figures: Figures) -> Rows:
    known = {one.name: one for one in figures.measures}
    return [
        {
            "suite": figures.measured.run.suite.name,
            "measure": one.measure,
            "measured_by": figures.measured_by(known[one.measure]),
            "method": one.column,
            "size": one.size,
            "sets": one.sets,
            "mean": one.interval.mean,
            "low": one.interval.low,
            "high": one.interval.high,
        }
        for one in figures.cells()
    ]


def _contests(figures: Figures) -> Rows:
    known = {one.name: one for one in figures.measures}
    met = [one for measure in known.values() for one in figures.against(measure, figures.baseline)]
    return [
        {
            "suite": figures.measured.run.suite.name,
            "measure": one.measure,
            "measured_by": figures.measured_by(known[one.measure]),
            "method": one.column,
            "other": one.other,
            "size": one.size,
            "sets": one.contest.sets,
            "difference": one.contest.difference.mean,
            "low": one.contest.difference.low,
            "high": one.contest.difference.high,
            "win": one.contest.win,
            "tie": one.contest.tie,
            "loss": one.contest.loss,
            "p": one.contest.p,
            "p_corrected": one.corrected,
            "p_least": one.contest.least,
        }
        for one in met
    ]


def _json(rows: Rows) -> str:
    lines = ",\n".join(json.dumps(dict(row), ensure_ascii=False, allow_nan=False) for row in rows)
    return f"[\n{lines}\n]\n"


def _parquet(rows: Rows, path: Path) -> None:
    table = import_module("pyarrow").Table.from_pylist([dict(row) for row in rows])
    import_module("pyarrow.parquet").write_table(table, path)
