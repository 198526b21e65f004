"""The tables of a report in which methods meet: wins, ties and losses, and how sure their differences are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eval.metrics.registry import Measure
from eval.page import sections
from eval.page.elements import Part, Td
from eval.statistics import EXACT, least_p
from eval.summary import Figures, Versus

LEVEL = 0.05  # below which a corrected p-value counts
_SHOWN_P = 0.0001


def p_value(p: float) -> str:
    """Return a p-value to four places; one that would read as 0 is said to be below what can be read."""
    return f"{p:.4f}" if p >= _SHOWN_P else f"< {_SHOWN_P}"


def about_p(sets: int) -> str:
    """Say how p-values of so many sets are found, and how small they can be."""
    least = least_p(sets)
    how = "all signs are counted" if sets <= EXACT else f"all signs are counted where at most {EXACT} sets differ"
    little = "" if least < LEVEL else ": too few to show anything"
    told = f"{how[:1].upper()}{how[1:]}; {sections.counted(sets, 'set')} can have no p below {least:.2g}, uncorrected"
    return f"{told}{little}."


def contests(figures: Figures) -> list[Part]:
    """Tabulate wins, ties and losses against the baseline, with corrected p-values."""
    told = (
        f"Each method against {figures.baseline}, set by set; ties are exactly equal means. p: two-sided, by "
        "flipping the signs of the sets' differences, corrected by Holm over all methods and sizes of the measure. "
        f"{about_p(figures.sets())}"
    )
    parts: list[Part] = []
    for measure in figures.measures:
        if measure.name not in {figures.headline.name, "present", "complete", "kept", "clipscore"}:
            continue
        found = [one for one in figures.against(measure, figures.baseline) if one.size is None]
        rows = [_contest_row(measure, one) for one in sorted(found, key=lambda one: -one.contest.win)]
        heads = ("method", "sets", "difference", "win", "tie", "loss", "p, corrected")
        parts.append(Part(f"Against {figures.baseline}: {measure.title}", heads, rows, "" if parts else told))
    return parts


def matrix(figures: Figures) -> Part | None:
    """Tabulate every method against every other on the headline."""
    if len(figures.columns) < 3:
        return None
    known = {(one.column, one.other): one for one in figures.pairs(figures.headline)}
    rows = [[Td(a), *(_meeting(known, a, b) for b in figures.columns)] for a in figures.columns]
    told = f"Share of sets in which the row has the better {figures.headline.title} than the column, and the reverse."
    return Part(
        "Each against each",
        ("", *figures.columns),
        rows,
        f"{told} *: p < 0.05, corrected. {about_p(figures.sets())}",
    )


def _contest_row(measure: Measure, one: Versus) -> Sequence[Td]:
    met = one.contest
    shares = (met.win, met.tie, met.loss)
    return [
        Td(one.column),
        Td(str(met.sets)),
        Td(*sections.with_interval(measure, met.difference)),
        *(Td(f"{100 * part:.1f} %") for part in shares),
        Td(p_value(one.corrected), best=one.corrected < LEVEL),
    ]


def _meeting(known: Mapping[tuple[str, str], Versus], a: str, b: str) -> Td:
    if a == b:
        return Td("")
    one = known.get((a, b)) or known.get((b, a))
    if one is None:
        return Td("–")
    win, loss = (one.contest.win, one.contest.loss) if one.column == a else (one.contest.loss, one.contest.win)
    star = "*" if one.corrected < LEVEL else ""
    return Td(f"{100 * win:.0f} : {100 * loss:.0f}{star}", heat=win / (win + loss) if win + loss else None)
