"""Plots and picture strips of a report on one suite."""

from __future__ import annotations

from collections.abc import Iterator

from eval.columns import NAIVE, TRUTH
from eval.measuring import Row
from eval.metrics.batch import shown
from eval.page import elements, plots
from eval.page.plots import Axes, Point
from eval.page.sections import number
from eval.suites.model import Case
from eval.summary import Figures

_ACCENTED = 4  # columns in colour beside the fixed ones
_RUNGS = 6  # columns of picture sheets beside the fixed ones
_STRIPS = 2  # sets of each size and group


def quality_by_cost(figures: Figures, cost: str, title: str) -> str:
    """Plot the headline against a cost."""
    points: dict[str, Point] = {}
    for column in figures.columns:
        paid, gained = figures.cell(cost, column), figures.cell(figures.headline.name, column)
        if paid is not None and gained is not None:
            points[column] = Point(paid.interval.mean, gained.interval)
    axes = Axes(title, figures.headline.title, figures.headline.unit == "share")
    return plots.scatter(points, axes, accents(figures)) if points else ""


def quality_by_size(figures: Figures) -> str:
    """Plot the headline over the number of LoRAs."""
    if len(figures.sizes) < 2:
        return ""
    series: dict[str, list[Point]] = {}
    for column in figures.shown:
        cells = [(size, figures.cell(figures.headline.name, column, size)) for size in figures.sizes]
        series[column] = [Point(size, cell.interval) for size, cell in cells if cell is not None]
    axes = Axes("LoRAs in the set", figures.headline.title, figures.headline.unit == "share")
    some = {name: points for name, points in series.items() if points}
    return plots.lines(some, axes, accents(figures)) if some else ""


def strips(figures: Figures) -> str:
    """Show the first sets of each kind by every method, whatever came of them."""
    rows: dict[tuple[str, str], Row] = {(row.column, row.case.name): row for row in figures.measured.rows}
    folder = figures.measured.run.folder
    parts: list[str] = []
    for case in examples(figures):
        pictures: list[tuple[str, str, str]] = []
        for column in figures.shown:
            row = rows.get((column, case.name))
            if row is not None:
                image = shown(case) if column == TRUTH else elements.opened(folder / row.file)
                pictures.append((elements.data_uri(image), column, remark(figures, row)))
        parts.append(elements.paragraph(f"N={case.set.size}, {case.set.group}: {case.set.prompt}"))
        parts.append(elements.strip(pictures))
    return "".join(parts)


def accents(figures: Figures) -> list[str]:
    """Return the columns in colour: drawings, prompt alone, the baseline and those that are best by the headline."""
    fixed, ranked = _ranked(figures)
    return [*fixed, *ranked[:_ACCENTED]]


def ladder(figures: Figures) -> list[str]:
    """Return the columns of picture sheets: drawings, prompt alone, the baseline, and others from best to worst."""
    fixed, ranked = _ranked(figures)
    last = len(ranked) - 1
    places = sorted({round(last * step / (_RUNGS - 1)) for step in range(_RUNGS)}) if ranked else []
    return [*fixed, *[ranked[place] for place in places]]


def _ranked(figures: Figures) -> tuple[list[str], list[str]]:
    """Return the columns that every picture has, and the others from best to worst by the headline."""
    cells = [(one, figures.cell(figures.headline.name, one)) for one in figures.columns]
    sign = 1 if figures.headline.better == "higher" else -1
    known = [(one, sign * cell.interval.mean) for one, cell in cells if cell is not None]
    fixed = [one for one in (TRUTH, NAIVE, figures.baseline) if one in figures.shown]
    return fixed, [one for one, _ in sorted(known, key=lambda item: -item[1]) if one not in fixed]


def examples(figures: Figures) -> Iterator[Case]:
    seen: dict[tuple[int, str], int] = {}
    for case in figures.measured.run.cases:
        kind = (case.set.size, case.set.group)
        if case.replicate == 0 and seen.get(kind, 0) < _STRIPS:
            seen[kind] = seen.get(kind, 0) + 1
            yield case


def remark(figures: Figures, row: Row) -> str:
    found = row.parts.get("presence")
    if found is None:
        name = figures.headline.name
        return number(figures.headline, row.values[name]) if name in row.values else ""
    lost = [name for name, there in found.items() if not there]
    return f"no {', '.join(lost)}" if lost else "all found"
