"""What the command `eval list` does."""

from __future__ import annotations

from pydantic import JsonValue

from composer.errors import UnknownChoice
from eval import suites
from eval.metrics import registry
from eval.suites import composlora
from pipelines import cli_output


def listing(what: str, as_json: bool) -> None:
    """List suites or metrics."""
    makers = {"suites": (_suites, ("name", "sets", "sizes", "about")), "metrics": (_metrics, _METRIC_COLUMNS)}
    if what not in makers:
        raise UnknownChoice("listing", what, makers)
    make, shown = makers[what]
    rows = make()
    if as_json:
        cli_output.document({what: [dict(row) for row in rows]})
    else:
        cli_output.table(rows, shown)


_METRIC_COLUMNS = ("metric", "measure", "unit", "better", "needs", "measured_by", "about")


def _suites() -> list[cli_output.Row]:
    rows: list[cli_output.Row] = []
    for name, make in suites.EMBEDDED.items():
        one = make()
        rows.append({"name": name, "sets": len(one.sets), "sizes": list(one.sizes), "about": one.about})
    sizes: list[JsonValue] = list(composlora.SIZES)
    count = sum(1 for _ in composlora.identifiers())
    about = "the published testbed, for those who own its LoRAs: --map FILE"
    return [*rows, {"name": composlora.NAME, "sets": count, "sizes": sizes, "about": about}]


def _metrics() -> list[cli_output.Row]:
    return [
        {
            "metric": metric.name,
            "measure": one.name,
            "unit": one.unit,
            "better": one.better,
            "needs": list(sorted(metric.needs)),
            "measured_by": f"the run's {metric.by.upper()}" if metric.by in registry.CHOSEN else metric.by,
            "about": one.about,
        }
        for metric in registry.every()
        for one in metric.measures
    ]
