"""The tables of a report on one suite."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from composer.request import Frozen
from eval import revisions
from eval.columns import TRUTH
from eval.intervals import Interval
from eval.metrics.registry import Measure
from eval.page.elements import Part, Td
from eval.revisions import Makers
from eval.spreads import Spread
from eval.summary import Figures
from lora_zoo.world.vocabulary import CATEGORIES

_WORK = ("passes", "rows")


class PublishedTable(Frozen):
    """Figures that others published."""

    title: str
    source: str
    measure: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float, ...]]


class Published(Frozen):
    """All of them, and how they are to be read."""

    note: str
    tables: tuple[PublishedTable, ...]


@cache
def published() -> Published:
    return Published.model_validate(json.loads(Path(__file__).with_name("published.json").read_text("utf-8")))


def number(measure: Measure, value: float) -> str:
    """Return a value as its measure is read: shares in percent, counts to a tenth, others to a hundredth."""
    if measure.unit == "share":
        return f"{100 * value:.1f} %"
    if measure.unit in _WORK:  # the same for every picture, as a rule
        return f"{value:.1f}".removesuffix(".0")
    return f"{value:.1f}" if measure.unit == "labels" else f"{value:.2f}"


def counted(count: int, what: str) -> str:
    """Return so many things in words."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def with_interval(measure: Measure, one: Interval) -> tuple[str, str]:
    """Return a mean, and its interval in brackets, if it has any width."""
    if one.ends is None or one.ends[0] == one.ends[1]:
        return number(measure, one.mean), ""
    ends = (number(measure, end).removesuffix(" %") for end in one.ends)
    return number(measure, one.mean), f"[{', '.join(ends)}]"


def overview(figures: Figures) -> list[Part]:
    """Tabulate every measure of every column, over all sets: what pictures show, and what they took."""
    seen = [one for one in figures.measures if one not in figures.costs]
    return [_overview("All sets", figures, seen), _overview("What a picture takes", figures, figures.costs)]


def _overview(title: str, figures: Figures, measures: Sequence[Measure]) -> Part:
    rows: list[list[Td]] = []
    best = {one.name: _best(figures, one, None) for one in measures}
    for column in figures.shown:
        cells = [figures.cell(one.name, column) for one in measures]
        tds = [
            Td("–") if cell is None else Td(*with_interval(one, cell.interval), column in best[one.name])
            for one, cell in zip(measures, cells, strict=True)
        ]
        if any(cells):
            rows.append([Td(column), *tds])
    return Part(title, ("method", *(one.title for one in measures)), rows, absences(figures, measures))


def absences(figures: Figures, measures: Sequence[Measure]) -> str:
    """Say why figures are not there, where a table of measures by column has dashes; "" if it has none."""
    reasons: dict[str, list[str]] = {}
    for column in figures.shown:
        for one in measures:
            if figures.cell(one.name, column) is None:
                reasons.setdefault(_absence(figures, one, column), []).append(one.title)
    told = "; ".join(f"{', '.join(dict.fromkeys(titles))}: {reason}" for reason, titles in reasons.items())
    return f"–: not measured. {told}." if told else ""


def _absence(figures: Figures, one: Measure, column: str) -> str:
    if column == TRUTH:
        return "drawings are not rendered" if one in figures.costs else f"{one.absent}, in drawings too"
    if not any(row.column == column for row in figures.measured.rows):
        return f"there is no picture by {column}"
    return one.absent


def measures(figures: Figures) -> Part:
    """Say what is measured."""
    rows = [
        [Td(one.title), Td(one.unit), Td(one.better), Td(one.about), Td(figures.measured_by(one))]
        for one in figures.measures
    ]
    return Part("What is measured", ("measure", "unit", "better", "what it is", "measured by"), rows, words=True)


def by_size(figures: Figures) -> list[Part]:
    """Tabulate the headline, and whether all is present, by the number of LoRAs."""
    if len(figures.sizes) < 2:
        return []
    parts: list[Part] = []
    chosen = [figures.headline, *(one for one in figures.measures if one.name in ("complete", "clipscore"))]
    for measure in chosen:
        best = {size: _best(figures, measure, size) for size in figures.sizes}
        rows = [[Td(column), *_size_cells(figures, measure, column, best)] for column in figures.shown]
        heads = [f"N={size}, {counted(figures.sets(size), 'set')}" for size in figures.sizes]
        parts.append(Part(f"{measure.title}, by the number of LoRAs", ("method", *heads), rows))
    return parts


def winners(figures: Figures) -> Part:
    """Tabulate who is best for which kind of set."""
    rows = [
        [
            Td(f"N={one.size}, {one.group}"),
            Td(str(one.sets)),
            Td(one.best, best=True),
            Td(*with_interval(figures.headline, one.interval)),
            Td(", ".join(one.beside) or "none"),
        ]
        for one in figures.winners()
    ]
    heads = ("kind of set", "sets", f"best by {figures.headline.title}", "mean", "not shown to be worse")
    return Part("Which method for which kind of set", heads, rows)


def agreements(figures: Figures) -> Part:
    """Tabulate how each measure agrees with the presence of the concepts."""
    titles = {one.name: one for one in figures.measures}
    rows = [
        [
            Td(titles[one.measure].title),
            _correlation(one.pictures),
            Td("–") if one.within is None else _correlation(one.within),
            Td("–" if one.columns is None else f"{one.columns:.2f}"),
        ]
        for one in figures.agreements()
    ]
    told = (
        "Spearman's rank correlation with the share of concepts present, by the detectors; signs are turned so that 1 "
        "is full agreement. Over pictures, over the methods within a case (mean over cases), and over their means. "
        "Measures by the same detectors (all present, sides, labels, attributes) agree partly because of that."
    )
    heads = ("measure", "over pictures", "within a case", "over methods")
    return Part("Which measure agrees with what is there", heads, rows, told)


def survival(figures: Figures) -> Part:
    """Tabulate which kinds of LoRA are found."""
    found = figures.survival()
    kinds = [one for one in CATEGORIES if any(one in own for own in found.values())]
    rows = [
        [Td(column), *(_heat(found[column].get(kind)) for kind in kinds)] for column in figures.shown if column in found
    ]
    return Part("Which kinds of LoRA are found", ("method", *kinds), rows)


def spreads(found: Mapping[str, Spread], by: str) -> Part:
    """Tabulate the distances of all pictures together, by the features of a CLIP."""
    rows = [
        [Td(name), Td(str(one.pictures)), Td(f"{one.kid:.4f}", f"± {one.kid_deviation:.4f}"), Td(f"{one.fid:.2f}")]
        for name, one in found.items()
    ]
    told = (
        f"On features of {by}, to other drawings of the same sets: not comparable with figures on other features. KID: "
        "mean and standard deviation over 100 subsets of half of the pictures, or of 100. FID depends on the number of "
        "pictures: compare it between equal numbers only."
    )
    heads = ("method", "pictures", f"KID ({by})", f"FID ({by})")
    return Part("All pictures of a method together", heads, rows, told)


def makers(found: Mapping[str, Makers]) -> Part:
    """Tabulate which code made the pictures of each suite, and of which methods."""
    rows = [
        [Td(suite), Td(code), Td(", ".join(columns)), Td(str(sum(own[one][code] for one in columns)))]
        for suite, own in found.items()
        for code in revisions.codes(own)
        if (columns := [one for one, counts in own.items() if code in counts])
    ]
    told = "A digest of the code that decides what pictures look like, by each picture's own record."
    return Part("The code that made the pictures", ("suite", "code", "methods", "pictures"), rows, told, words=True)


def beside(ours: Sequence[str]) -> list[Part]:
    """Tabulate what others published."""
    parts: list[Part] = []
    for one in published().tables:
        rows = [
            [Td(f"{name} *" if name in ours else name), *(Td(f"{value:g}") for value in values)]
            for name, values in one.rows.items()
        ]
        parts.append(Part(one.title, ("method", *one.columns), rows, f"{one.source}. *: also in this report."))
    return parts


def _size_cells(figures: Figures, measure: Measure, column: str, best: Mapping[int, set[str]]) -> list[Td]:
    cells = [(size, figures.cell(measure.name, column, size)) for size in figures.sizes]
    return [
        Td("–") if cell is None else Td(*with_interval(measure, cell.interval), column in best[size])
        for size, cell in cells
    ]


def _best(figures: Figures, measure: Measure, size: int | None) -> set[str]:
    """Return the columns with the best mean; drawings do not compete."""
    cells = [(column, figures.cell(measure.name, column, size)) for column in figures.columns]
    known = {column: cell.interval.mean for column, cell in cells if cell is not None}
    if not known:
        return set()
    if len(set(known.values())) == 1:
        return set()  # nobody is best where all are equal
    top = max(known.values()) if measure.better == "higher" else min(known.values())
    return {column for column, value in known.items() if value == top}


def _correlation(one: Interval) -> Td:
    return Td(f"{one.mean:.2f}", "" if one.ends is None else f"[{one.ends[0]:.2f}, {one.ends[1]:.2f}]")


def _heat(part: float | None) -> Td:
    return Td("–") if part is None else Td(f"{100 * part:.0f} %", heat=part)
