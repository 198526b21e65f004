"""Summaries as Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence

from eval import accuracy, base, clip, compose, loras
from eval.accuracy import Accuracy
from eval.intervals import Interval
from lora_zoo.world.vocabulary import CATEGORIES

_WORST = 5  # questions of each kind that are named


def of_detectors(summary: accuracy.Summary) -> str:
    """Tabulate how sure the judge is; of each kind of question the worst are named."""
    kinds = {
        "concept anywhere in the picture": summary.concepts,
        "attribute or concept, sides together": summary.attributes,
        "attribute or concept on its side": summary.labels,
    }
    rows = [
        (what, str(len(found)), _percent(found[0].balanced), _percent(_mean(found)), _worst(found))
        for what, found in kinds.items()
    ]
    head = f"Balanced accuracy on {summary.pictures} fresh drawn pictures."
    return f"{head}\n\n{_table(('question', 'how many', 'worst', 'mean', 'the worst'), rows)}"


def of_clip(summary: clip.Summary) -> str:
    """Tabulate retrieval."""
    rows = [
        ("the caption of a picture", _percent(summary.caption_of_picture)),
        ("the picture of a caption", _percent(summary.picture_of_caption)),
    ]
    head = f"Fresh drawn pictures in {summary.groups} groups of {summary.among}."
    return f"{head}\n\n{_table((f'top-1 among {summary.among}', 'right'), rows)}"


def of_base(summary: base.Summary) -> str:
    """Tabulate the named attributes that were found."""
    rows = [
        ("all", summary.overall),
        ("scenes with one creature", summary.one_creature),
        ("scenes with two creatures", summary.two_creatures),
        *summary.kinds.items(),
        ("pictures that show all that was named", summary.complete),
    ]
    head = f"{summary.pictures} captions of scenes that were not in training; {summary.settings}."
    table = _table(("named attributes", "found"), [(name.replace("_", " "), _percent(part)) for name, part in rows])
    return f"{head}\n\n{table}"


def of_loras(summary: loras.Summary) -> str:
    """Tabulate the zoo, one LoRA per line."""
    rows = [
        (
            *(one.name.replace("_", " "), f"{one.family} {one.identifier}", one.dialect),
            *(f"{one.rank} / {one.alpha:g}", ", ".join(one.components), f"{one.weight:g}"),
            *(_percent(part) for part in (one.found, one.kept, one.base, one.relative)),
        )
        for one in summary.loras
    ]
    columns = ("LoRA", "member", "format", "rank / alpha", "parts", "weight", "concept found", "rest kept")
    head = f"{summary.pictures_each} pictures each; {summary.settings}."
    return f"{head}\n\n{_table((*columns, 'base model', 'kept / base'), rows)}"


def of_compose(summary: compose.Summary) -> str:
    """Tabulate methods by the number of concepts."""
    rows = [
        (
            *(str(one.size), one.method, str(one.sets), _interval(one.present), _interval(one.complete)),
            *(_percent(one.categories[name]) if name in one.categories else "–" for name in CATEGORIES),
            *((f"{one.passes:g}", f"{one.seconds:.2f}") if one.passes else ("–", "–")),
        )
        for one in summary.cells
    ]
    columns = ("N", "method", "sets", "concepts present", "all present", *CATEGORIES, "UNet passes", "seconds")
    head = f"{summary.seeds} picture(s) per set and method; {summary.settings}. In brackets: 95 % bootstrap over sets."
    return f"{head}\n\n{_table(columns, rows)}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (columns, rule, *rows))


def _percent(part: float) -> str:
    return f"{100 * part:.1f} %"


def _interval(one: Interval) -> str:
    ends = "" if one.ends is None else f" [{100 * one.ends[0]:.1f}, {100 * one.ends[1]:.1f}]"
    return f"{100 * one.mean:.1f} %{ends}"


def _mean(found: Sequence[Accuracy]) -> float:
    return sum(one.balanced for one in found) / len(found)


def _worst(found: Sequence[Accuracy]) -> str:
    return ", ".join(f"{one.name} {_percent(one.balanced)}" for one in found[:_WORST])
