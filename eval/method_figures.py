"""What was measured of methods at their defaults, as rows of a table: one for each suite that was run."""

from __future__ import annotations

from collections.abc import Sequence

from eval.measuring import Measured
from eval.metrics import registry
from eval.metrics.registry import Measure
from eval.page import sections
from eval.page.elements import Part, Td
from eval.summary import Figures

#: In the table's order. A suite that does not measure one has a dash there.
SHOWN = ("present", "complete", "side", "bleeding", "apart", "kept", "passes", "looks", "seconds")


class MethodFigures:
    """The figures of some runs, by method."""

    def __init__(self, measured: Sequence[Measured]) -> None:
        self._runs = [Figures(one) for one in measured]

    def markdown(self, name: str) -> str:
        """Return a method's table in Markdown; "" if no run has the method with its default parameters."""
        rows = [_row(run, name) for run in self._runs if name in run.columns]
        heads = ("suite", "sets", *(one.title for one in _measures()))
        return Part("", heads, rows).markdown()


def _measures() -> list[Measure]:
    known = {one.name: one for metric in registry.every() for one in metric.measures}
    return [known[name] for name in SHOWN]


def _row(run: Figures, name: str) -> list[Td]:
    cells = [(one, run.cell(one.name, name)) for one in _measures()]
    tds = [Td("–") if cell is None else Td(*sections.with_interval(one, cell.interval)) for one, cell in cells]
    sets = max((cell.sets for _, cell in cells if cell is not None), default=0)
    return [Td(run.measured.run.suite.name), Td(str(sets)), *tds]
