"""What a method does with each LoRA, step by step, as small drawings; each says the same in words beside it.

Everything is drawn from an outline and from measured profiles: no method is known here. Colours go by a LoRA's place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import groupby

from composer import spectrum
from composer.outline import Line, Outline

_COLOURS = 6  # in page.css and chosen.js
_MOST_RUNS = 5  # stretches of steps that are told one by one
_MANY = 60  # steps; between more, no lines are drawn
_FLAT = 1e-6


def timeline(found: Outline, labels: Mapping[str, str]) -> str:
    """Return a row of bars per LoRA, one bar per step; `labels` are the names to show."""
    if not found.lines or not found.count:
        return ""
    strengths = [one for line in found.lines for one in line.strengths]
    low, high = min(0.0, *strengths), max(0.0, *strengths)
    if high - low < _FLAT:
        high = 1.0
    rows = "".join(_row(place, line, (low, high), labels) for place, line in enumerate(found.lines))
    told = "; ".join(f"{labels.get(line.name, line.name)}: {in_words(line.strengths)}" for line in found.lines)
    notes = "".join(f'<p class="m-note">{escape(text)}</p>' for text in _notes(found, labels))
    kind = "m-timeline m-many" if found.count > _MANY else "m-timeline"
    return (
        f'<figure class="{kind}" style="--steps:{found.count}"><figcaption>What acts in each step</figcaption>'
        f'<div role="img" aria-label="{escape(told)}">{rows}'
        f'<div class="m-line m-axis"><span></span><span>step 1</span><span>{found.count}</span></div></div>'
        f"{notes}</figure>"
    )


def in_words(strengths: Sequence[float]) -> str:
    """Return in which steps, from 1, something acts and how strongly; many different stretches are summed up."""
    runs: list[tuple[float, int, int]] = []
    start = 0
    for value, group in groupby(strengths, key=lambda one: round(one, 3)):
        end = start + len(list(group))
        if value:
            runs.append((value, start + 1, end))
        start = end
    if not runs:
        return "never"
    if runs == [(runs[0][0], 1, len(strengths))]:
        return f"{runs[0][0]:g} in all steps"
    values = list(dict.fromkeys(value for value, _, _ in runs))
    if len(runs) > _MOST_RUNS:
        acting = sum(end - first + 1 for _, first, end in runs)
        strength = f"{min(values):g} to {max(values):g}" if len(values) > 1 else f"{values[0]:g}"
        return f"{strength} in {acting} of {len(strengths)} steps"
    return ", ".join(f"{value:g} in {_stretches(runs, value)}" for value in values)


def profiles(found: Mapping[str, Sequence[float]], labels: Mapping[str, str], places: Mapping[str, int]) -> str:
    """Return how much each LoRA draws at each fineness, one curve per LoRA, and how much of it is fine detail."""
    curves = {name: rings for name, rings in found.items() if len(rings) > 1}
    if not curves:
        return ""
    low = min(min(rings) for rings in curves.values())
    top = max(max(rings) for rings in curves.values())
    lines = "".join(
        f'<polyline points="{_points(rings, low, top)}" style="stroke:{_colour(places[name])}"/>'
        for name, rings in curves.items()
    )
    shares = {name: f"{spectrum.frequency(rings):.3f}" for name, rings in curves.items()}
    legend = "".join(
        f'<li><span class="m-swatch" style="background:{_colour(places[name])}"></span>'
        f"{escape(labels.get(name, name))} {share}</li>"
        for name, share in shares.items()
    )
    told = ", ".join(f"{labels.get(name, name)} {share}" for name, share in shares.items())
    return (
        '<figure class="m-timeline"><figcaption>What each LoRA draws, from coarse shapes to fine detail</figcaption>'
        f'<svg class="m-curves" viewBox="0 0 100 100" preserveAspectRatio="none" role="img" '
        f'aria-label="Part of fine detail: {escape(told)}">{lines}</svg>'
        '<div class="m-line m-axis"><span>coarse</span><span></span><span>fine</span></div>'
        f'<ul class="m-legend">{legend}</ul>'
        '<p class="m-note">This method goes by the part of fine detail, measured once for each LoRA.</p></figure>'
    )


def _row(place: int, line: Line, ends: tuple[float, float], labels: Mapping[str, str]) -> str:
    whole = _bars(line, ends, lambda step: not line.kept[step])
    kept = _bars(line, ends, lambda step: line.kept[step])
    most = max(line.strengths, key=abs)
    return (
        f'<div class="m-line"><span class="m-who">{escape(labels.get(line.name, line.name))}</span>'
        f'<svg viewBox="0 0 {len(line.strengths)} 1" preserveAspectRatio="none" aria-hidden="true" '
        f'style="fill:{_colour(place)}">'
        f'<path d="{whole}"/><path class="m-kept" d="{kept}"/><rect class="m-now" width="1" height="1" x="-2"/></svg>'
        f"<span>{most:.2g}</span></div>"
    )


def _bars(line: Line, ends: tuple[float, float], drawn: Callable[[int], bool]) -> str:
    """Return the outline of a LoRA's bars, as an SVG path one unit high; neighbours of one height are one bar."""
    low, high = ends

    def at(value: float) -> str:
        return f"{(high - value) / (high - low):.3g}"

    parts: list[str] = []
    start = 0
    for (value, there), group in groupby(
        enumerate(line.strengths), key=lambda one: (round(one[1], 4), drawn(one[0]) and bool(one[1]))
    ):
        length = len(list(group))
        if there:
            parts.append(f"M{start} {at(0.0)}V{at(value)}h{length}V{at(0.0)}z")
        start += length
    return "".join(parts)


def _notes(found: Outline, labels: Mapping[str, str]) -> list[str]:
    open_still = found.read and not found.known
    told = {
        "One LoRA is made of all of them; what it keeps of each is decided layer by layer.": found.merged,
        "How the answers are mixed is decided as they come; the bars are the weights.": not found.settled,
        "Provisional: how much each counts is read from the prompt; until then, all count alike here.": open_still,
        "How much each counts is what the model read in the prompt.": found.read and found.known,
        "Pale: from features kept in an earlier step.": any(any(line.kept) for line in found.lines),
    }
    notes = [text for text, holds in told.items() if holds]
    if placed := [labels.get(line.name, line.name) for line in found.lines if line.placed]:
        notes.append(f"In a part of the picture only: {', '.join(placed)}.")
    if looked := [index + 1 for index, count in enumerate(found.looks) if count]:
        steps = f"step {looked[0]}" if len(looked) == 1 else f"{len(looked)} steps, the last of them step {looked[-1]}"
        notes.append(f"It looks at the attention before {steps}.")
    if found.second is not None:
        notes.append(f"From step {found.second + 1} on: the second pass, over the picture enlarged.")
    return notes


def _stretches(runs: Sequence[tuple[float, int, int]], value: float) -> str:
    parts = [f"{first}" if first == end else f"{first} to {end}" for one, first, end in runs if one == value]
    if len(parts) == 1:
        return f"steps {parts[0]}" if " to " in parts[0] else f"step {parts[0]}"
    return f"steps {', '.join(parts[:-1])} and {parts[-1]}"


def _points(rings: Sequence[float], low: float, top: float) -> str:
    height = max(top - low, _FLAT)
    return " ".join(
        f"{100 * place / (len(rings) - 1):.1f},{98 - 96 * (ring - low) / height:.1f}"
        for place, ring in enumerate(rings)
    )


def _colour(place: int) -> str:
    return f"var(--m-lora-{place % _COLOURS})"
