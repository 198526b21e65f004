"""Figures of a measured run: means with intervals, contests with corrected p-values, winners, rank correlations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum

import numpy as np

from eval.columns import NAIVE, TRUTH
from eval.errors import NoResults
from eval.intervals import Interval, bootstrap
from eval.measuring import Measured, Row
from eval.metrics import registry
from eval.metrics.registry import Measure, Metric
from eval.statistics import Contest, contest, holm, rank_correlation, spearman

#: What a suite is about: the first of these that was measured.
HEADLINES = ("apart", "present", "clipscore_least")
#: What other figures are compared with.
PRESENCE = "present"
_LEVEL = 0.05


@dataclass(frozen=True)
class Cell:
    """A measure of one column, over all sets or those of one size."""

    measure: str
    column: str
    size: int | None
    sets: int
    interval: Interval


@dataclass(frozen=True)
class Versus:
    """A column against another, with the p-value corrected over all contests of the measure."""

    measure: str
    column: str
    other: str
    size: int | None
    contest: Contest
    corrected: float


@dataclass(frozen=True)
class Winner:
    """Who is best for a kind of set, and who is not shown to be worse."""

    size: int
    group: str
    sets: int
    best: str
    interval: Interval
    beside: tuple[str, ...]  # columns whose loss to the best does not hold after correction


@dataclass(frozen=True)
class Agreement:
    """How well a measure's order agrees with the presence of the concepts; 1 is full agreement, higher is better."""

    measure: str
    pictures: Interval  # over all pictures, intervals over sets
    within: Interval | None  # over the columns of one set, mean over sets: what a comparison of methods rests on
    columns: float | None  # over the columns' means


class Figures:
    """All figures of a run; each is computed when it is asked for."""

    def __init__(self, measured: Measured) -> None:
        self.measured = measured
        self.columns = tuple(one.label for one in measured.run.columns)
        self.sizes = measured.run.suite.sizes
        self._rows: dict[str, list[Row]] = defaultdict(list)
        for row in measured.rows:
            self._rows[row.column].append(row)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The measures that some picture has, in the metrics' order; of costs, those that some method has."""
        found = {name for row in self.measured.rows for name in row.values}
        paid = {name for row in self.measured.rows for name, value in row.values.items() if value}
        every = [(metric, one) for metric in map(registry.get, self.measured.metrics) for one in metric.measures]
        some = [(metric, one) for metric, one in every if one.name in (paid if metric.of_work else found)]
        return tuple(self._titled(metric, one) for metric, one in some)

    @property
    def costs(self) -> tuple[Measure, ...]:
        """Of the measures, those that say what a picture took."""
        metrics = [one for one in map(registry.get, self.measured.metrics) if one.of_work]
        own = {measure.name for one in metrics for measure in one.measures}
        return tuple(one for one in self.measures if one.name in own)

    @property
    def headline(self) -> Measure:
        known = {one.name: one for one in self.measures}
        if not known:
            raise NoResults(f"{self.measured.run.folder} holds no picture that anything was measured of")
        return next((known[name] for name in HEADLINES if name in known), self.measures[0])

    @property
    def baseline(self) -> str:
        """What the others are held against: merge, or the first column that is not the prompt alone."""
        others = [one for one in self.columns if one != NAIVE] or list(self.columns)
        return "merge" if "merge" in others else others[0]

    @property
    def shown(self) -> tuple[str, ...]:
        """The columns of tables: the drawings first, if there are any."""
        return (TRUTH, *self.columns) if self._rows.get(TRUTH) else self.columns

    def by_set(self, measure: str, column: str, size: int | None = None, group: str | None = None) -> dict[str, float]:
        """Return the mean over the replicates of each set."""
        own: dict[str, list[float]] = defaultdict(list)
        for row in self._rows.get(column, ()):
            fits = size in (None, row.case.set.size) and group in (None, row.case.set.group)
            if fits and measure in row.values:
                own[row.case.set.key].append(row.values[measure])
        return {key: _mean(values) for key, values in own.items()}

    def sets(self, size: int | None = None) -> int:
        """Return how many sets were asked for, of one size or in all."""
        return len({case.set.key for case in self.measured.run.cases if size in (None, case.set.size)})

    def measured_by(self, measure: Measure) -> str:
        """Return in words what a measure was taken by: the CLIP or DINO by its name, or a tool."""
        metrics = map(registry.get, self.measured.metrics)
        by = next(metric.by for metric in metrics if measure.name in {one.name for one in metric.measures})
        return self.measured.run.measured_by(by)

    def cell(self, measure: str, column: str, size: int | None = None) -> Cell | None:
        """Return a mean with its interval; None where nothing was measured."""
        found = self.by_set(measure, column, size)
        return Cell(measure, column, size, len(found), bootstrap(list(found.values()))) if found else None

    def cells(self) -> list[Cell]:
        """Return every mean there is."""
        some = (
            self.cell(one.name, column, size)
            for one in self.measures
            for column in self.shown
            for size in self._all_sizes
        )
        return [one for one in some if one is not None]

    def against(self, measure: Measure, other: str) -> list[Versus]:
        """Return each column against one, overall and by size; p-values are corrected over all of these."""
        asked = [(column, size) for column in self.columns if column != other for size in self._all_sizes]
        return self._contests(measure, [(column, other, size) for column, size in asked])

    def pairs(self, measure: Measure) -> list[Versus]:
        """Return every column against every other, over all sets."""
        columns = self.columns
        return self._contests(measure, [(a, b, None) for i, a in enumerate(columns) for b in columns[i + 1 :]])

    def winners(self) -> list[Winner]:
        """Return the best column for each kind of set by the headline."""
        out: list[Winner] = []
        for size in self.sizes:
            for group in self.measured.run.suite.groups:
                found = {one: self.by_set(self.headline.name, one, size, group) for one in self.columns}
                if any(found.values()):
                    out.append(self._winner(size, group, {one: known for one, known in found.items() if known}))
        return out

    def survival(self) -> dict[str, dict[str, float]]:
        """Return, by column and category, the share of the members found: what each kind of LoRA suffers."""
        counts: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for row in self.measured.rows:
            kinds = {one.name: one.category for one in row.case.set.members}
            for name, seen in row.parts.get("presence", {}).items():
                counts[row.column][kinds[name]].append(seen)
        return {column: {kind: sum(seen) / len(seen) for kind, seen in own.items()} for column, own in counts.items()}

    def agreements(self) -> list[Agreement]:
        """Return how each measure of what is seen agrees with presence, the best first; nothing without presence."""
        rows = [row for row in self.measured.rows if row.column != TRUTH and PRESENCE in row.values]
        costs = self.costs
        seen = [one for one in self.measures if one.name != PRESENCE and one not in costs]
        found = (self._agreement(one, rows) for one in seen)
        return sorted((one for one in found if one is not None), key=lambda one: -one.pictures.mean)

    def _titled(self, metric: Metric, one: Measure) -> Measure:
        """Return a measure whose title names the model that the run chose for it."""
        if metric.by not in registry.CHOSEN:
            return one
        return replace(one, title=f"{one.title} ({self.measured.run.measured_by(metric.by)})")

    @property
    def _all_sizes(self) -> tuple[int | None, ...]:
        return (None, *self.sizes) if len(self.sizes) > 1 else (None,)

    def _contests(self, measure: Measure, asked: Sequence[tuple[str, str, int | None]]) -> list[Versus]:
        found: list[tuple[str, str, int | None, Contest]] = []
        for a, b, size in asked:
            both = _paired(self.by_set(measure.name, a, size), self.by_set(measure.name, b, size))
            if both:
                found.append((a, b, size, contest(*_apart(both), measure.better)))
        corrected = holm([one.p for *_, one in found])
        return [Versus(measure.name, *one, p) for one, p in zip(found, corrected, strict=True)]

    def _winner(self, size: int, group: str, found: Mapping[str, Mapping[str, float]]) -> Winner:
        sign = 1 if self.headline.better == "higher" else -1
        best = max(found, key=lambda one: sign * _mean(found[one].values()))
        others = [(one, _paired(found[best], known)) for one, known in found.items() if one != best]
        met = [(one, contest(*_apart(both), self.headline.better)) for one, both in others if both]
        corrected = holm([one.p for _, one in met])
        beside = tuple(one for (one, _), p in zip(met, corrected, strict=True) if p >= _LEVEL)
        known = found[best]
        return Winner(size, group, len(known), best, bootstrap(list(known.values())), beside)

    def _agreement(self, measure: Measure, rows: Sequence[Row]) -> Agreement | None:
        own = [row for row in rows if measure.name in row.values]
        if len(own) < 2:
            return None
        sign = 1.0 if measure.better == "higher" else -1.0
        a = np.array([sign * row.values[measure.name] for row in own])
        b = np.array([row.values[PRESENCE] for row in own])
        pictures = rank_correlation(a, b, [row.case.set.key for row in own])
        if pictures is None:
            return None
        cases: dict[str, list[int]] = defaultdict(list)
        for place, row in enumerate(own):
            cases[row.case.name].append(place)
        within = [spearman(a[some], b[some]) for some in cases.values()]
        known = [one for one in within if one is not None]
        means = [
            (sign * _mean(x.values()), _mean(y.values()))
            for column in self.columns
            if (x := self.by_set(measure.name, column)) and (y := self.by_set(PRESENCE, column))
        ]
        columns = spearman(*_apart(means)) if len(means) > 2 else None
        return Agreement(measure.name, pictures, bootstrap(known) if known else None, columns)


def _paired(a: Mapping[str, float], b: Mapping[str, float]) -> list[tuple[float, float]]:
    return [(a[key], b[key]) for key in a if key in b]


def _apart(both: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [a for a, _ in both], [b for _, b in both]


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return fsum(known) / len(known)  # which does not depend on their order
