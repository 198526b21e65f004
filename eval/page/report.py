"""The report: one HTML page about any number of runs, and beside it their figures as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eval import machine, outputs, revisions, spreads, viewers
from eval.judge import verdicts
from eval.measuring import Measured
from eval.metrics import registry
from eval.metrics.batch import Tools
from eval.page import contests, drawn, elements, export, sections
from eval.page.elements import Part, Td
from eval.summary import Figures

FIGURES = "figures"


def write(measured: Sequence[Measured], path: Path) -> Path:
    """Write the page, and each run's figures into its own folder; return the page's path."""
    every = [Figures(one) for one in measured]
    parts = ["<h1>How LoRAs are best composed</h1>", _opening(every)]
    parts += [elements.paragraph(f"Notice: {text}.") for text in apart(measured)]
    for figures in every:
        export.write(figures, figures.measured.run.folder / FIGURES)
        parts.append(_suite(figures))
    parts.append(elements.section("Published figures", *_published(every), anchor="published"))
    parts.append(elements.section("To repeat this", _repeat(every), anchor="repeat"))
    outputs.write_text(elements.page(elements.REPORT_TITLE, parts), path)
    return path


def _published(every: Sequence[Figures]) -> list[str]:
    by = {figures.measured.run.measured_by("clip") for figures in every}
    ours = f"CLIPScore of this report is by {' and '.join(sorted(by))}; the published one by {viewers.PUBLISHED}."
    return [
        elements.paragraph(f"{sections.published().note} {ours}", note=True),
        *(one.html() for one in sections.beside([column for figures in every for column in figures.columns])),
    ]


def _opening(every: Sequence[Figures]) -> str:
    links = "".join(f'<a href="#{one.measured.run.suite.name}">{one.measured.run.suite.name}</a>' for one in every)
    links += '<a href="#published">published</a><a href="#repeat">repeat</a>'
    told = (
        "Every method is given the same prompts and the same noise. Brackets are 95 % intervals, by bootstrap over "
        "sets; the pictures of one set are averaged first. Bold: the best mean of a column, drawings left out."
    )
    return f"<nav>{links}</nav>" + elements.paragraph(told)


def _suite(figures: Figures) -> str:
    run = figures.measured.run
    sets, pictures = len({case.set.key for case in run.cases}), sections.counted(run.wish.seeds, "picture")
    told = [f"{run.suite.about[:1].upper()}{run.suite.about[1:]}. {sections.counted(sets, 'set')}, {pictures} each."]
    told += [f"{column}: {count} pictures are missing." for column, count in figures.measured.missing.items()]
    parts = [
        elements.paragraph(" ".join(told)),
        *(elements.paragraph(f"Notice: {text}.") for text in notices(figures.measured)),
        *(part.html() for part in sections.overview(figures)),
        _plot("Quality against cost", drawn.quality_by_cost(figures, "passes", "UNet passes per picture")),
        _plot("Quality against arithmetic", drawn.quality_by_cost(figures, "gflop", "GFLOP per picture")),
        _plot("Quality against time", drawn.quality_by_cost(figures, "seconds", "seconds per picture")),
        _plot("Quality against the number of LoRAs", drawn.quality_by_size(figures)),
        *(part.html() for part in tables(figures)),
        elements.section("Pictures", drawn.strips(figures), level=3),
    ]
    return elements.section(f"Suite {run.suite.name}", *parts, anchor=run.suite.name)


def notices(measured: Measured) -> list[str]:
    """Say what a reader of a run's figures must know: several codes, and pictures or metrics that are left out."""
    told = revisions.mixed(revisions.makers(measured))
    told += [f"{name} gave no finite number for {count} pictures: left out" for name, count in measured.broken.items()]
    blind = viewers.lacks_clip(measured.run.wish.clip, measured.run.models)
    if blind is not None:
        told.append(f"nothing is measured by a CLIP, since none is named that knows the pictures of model {blind!r}")
    return told


def apart(every: Sequence[Measured]) -> list[str]:
    """Say that figures of runs must not be compared, where they are by different models."""
    told: list[str] = []
    for by in registry.CHOSEN:
        used = {
            one.run.suite.name + f" ({one.run.folder.name})": one.run.measured_by(by)
            for one in every
            if any(registry.get(name).by == by for name in one.metrics)
        }
        if len(set(used.values())) > 1:
            said = "; ".join(f"{run}: {name}" for run, name in used.items())
            told.append(f"the runs are measured by different models, do not compare their figures: {said}")
    return told


def tables(figures: Figures) -> list[Part]:
    """Return the tables of a suite but the first."""
    run = figures.measured.run
    matrix = contests.matrix(figures)
    return [
        *sections.by_size(figures),
        sections.survival(figures),
        sections.winners(figures),
        *contests.contests(figures),
        *([matrix] if matrix else []),
        sections.agreements(figures),
        sections.spreads(spreads.of_run(figures.measured, Tools(run.wish.clip)), run.measured_by("clip")),
        *map(verdicts.table, verdicts.read(run.folder)),
        sections.measures(figures),
    ]


def _plot(title: str, svg: str) -> str:
    return elements.section(title, elements.figure(svg), level=3) if svg else ""


def _repeat(every: Sequence[Figures]) -> str:
    rows = [[Td(name), Td(value)] for name, value in machine.facts().items()]
    facts = Part("The machine that wrote this page", ("what", "which"), rows, words=True).html()
    facts += sections.makers({one.measured.run.suite.name: revisions.makers(one.measured) for one in every}).html()
    wishes = "".join(elements.pre(one.measured.run.wish.model_dump_json(indent=1)) for one in every)
    told = (
        "`python app.py eval run SUITE --methods … --out DIR` with what each run.json says, below. Every picture "
        "carries its request; `figures/` beside this page holds one row per picture, mean and contest."
    )
    return elements.paragraph(told) + wishes + facts
