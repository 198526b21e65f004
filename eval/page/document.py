"""The benchmark as a document: tables between marker comments, plots and picture sheets beside it.

Words around the markers are left as they are, so that findings can be written once and figures renewed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eval import machine, outputs, revisions, sheets
from eval.columns import TRUTH
from eval.measuring import Measured, Row
from eval.metrics.batch import shown
from eval.page import drawn, elements, report, sections
from eval.page.elements import Part, Td
from eval.report import updated
from eval.summary import Figures
from pipelines.sheet import Tile

FILE = "benchmark.md"
_FOLDER = "benchmark"
_OPENING = """# Methods compared on the embedded world

Every method is given the same prompts, the same noise, its default parameters and every LoRA at its preferred weight.
`naive` is the prompt alone; `truth` is the drawn picture, the most that the judge can find. Brackets: 95 % intervals,
by bootstrap over sets. `python app.py eval benchmark` makes this page.
"""


def write(measured: Sequence[Measured], docs: Path) -> Path:
    """Renew the document; return its path."""
    codes = sections.makers({one.run.suite.name: revisions.makers(one) for one in measured})
    made_on = [one.markdown(level=4) for one in (_machine(measured), codes)]
    parts = {"machine": "\n\n".join([*made_on, *(f"**Notice: {text}.**" for text in report.apart(measured))])}
    titles = {"machine": "Made on"}
    for one in measured:
        figures = Figures(one)
        name = one.run.suite.name
        titles[name] = f"Suite {name}: {one.run.suite.about}"
        parts[name] = _suite(figures, docs)
    document = docs / FILE
    text = document.read_text(encoding="utf-8") if document.exists() else _OPENING
    outputs.write_text(updated(text, parts, titles), document)
    return document


def _suite(figures: Figures, docs: Path) -> str:
    run = figures.measured.run
    name, sets = run.suite.name, len({case.set.key for case in run.cases})
    pictures = sum(1 for row in figures.measured.rows if row.file)
    each = sections.counted(run.wish.seeds, "picture")
    told = f"{sections.counted(sets, 'set')}, {each} of each by each method; {sections.counted(pictures, 'picture')}."
    notices = [f"**Notice: {text}.**" for text in report.notices(figures.measured)]
    plots = {
        "cost": drawn.quality_by_cost(figures, "passes", "UNet passes per picture"),
        "size": drawn.quality_by_size(figures),
    }
    images: list[str] = []
    for kind, svg in plots.items():
        if svg:
            outputs.write_text(svg, docs / _FOLDER / f"{name}-{kind}.svg")
            images.append(f"![{figures.headline.title} and {kind}]({_FOLDER}/{name}-{kind}.svg)")
    outputs.write_sheet(sheets.page(_rows(figures)), docs / _FOLDER / f"{name}.png")
    images.append(f"![Pictures of suite {name}]({_FOLDER}/{name}.png)")
    parts = [*sections.overview(figures), *report.tables(figures)]
    return "\n\n".join(text for text in (told, *notices, *images, *(one.markdown() for one in parts)) if text)


def _rows(figures: Figures) -> list[sheets.Row]:
    """Return the sheet's rows: the first sets of each kind, by the drawings and columns from the best to the worst."""
    known: dict[tuple[str, str], Row] = {(row.column, row.case.name): row for row in figures.measured.rows}
    folder = figures.measured.run.folder
    rows: list[sheets.Row] = []
    for case in drawn.examples(figures):
        tiles: list[Tile] = []
        for column in drawn.ladder(figures):
            row = known.get((column, case.name))
            if row is not None:
                image = shown(case) if column == TRUTH else elements.opened(folder / row.file)
                tiles.append(Tile(column, drawn.remark(figures, row), image))
        rows.append(sheets.Row(case.set.prompt, tuple(tiles)))
    return rows


def _machine(measured: Sequence[Measured]) -> Part:
    facts = dict(machine.facts())
    seconds = sum(row.values.get("seconds", 0.0) for one in measured for row in one.rows)
    pictures = sum(1 for one in measured for row in one.rows if row.file)
    names = ", ".join(one.run.suite.name for one in measured)
    facts["rendering"] = f"{names}: {pictures} pictures in {seconds / 60:.0f} minutes of rendering"
    return Part("", ("what", "which"), [[Td(name), Td(value)] for name, value in facts.items()], words=True)
