"""Plots as SVG text: points with intervals against a cost, and lines over the size of sets. No library, no script."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from eval.intervals import Interval

PALETTE = ("#1b6ca8", "#d1495b", "#2a9d57", "#8e5ea2", "#e08e0b", "#17989c", "#7a5230", "#c23b9a")
FAINT, INK, GRID = "#a9b0b7", "#22272b", "#e4e7ea"
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 420, 62, 150, 14, 46
_LINE = 13  # pixels between labels

Scale = Callable[[float], float]


@dataclass(frozen=True)
class Point:
    """A mean with its interval, at a place on the x axis."""

    x: float
    y: Interval


@dataclass(frozen=True)
class Axes:
    """What the axes are called, and whether y is a share, shown in percent."""

    x: str
    y: str
    percent: bool


def scatter(points: Mapping[str, Point], axes: Axes, accents: Sequence[str]) -> str:
    """Draw one labelled point with its interval per name; the x axis is logarithmic if it spans more than eightfold."""
    xs = [one.x for one in points.values()]
    log = min(xs) > 0 and max(xs) / min(xs) > 8
    ends = _y_ends(points.values(), axes.percent)
    across, down = _x_scale(xs, log), _y_scale(ends)
    marks = [_mark(name, point, across, down, _colour(name, accents)) for name, point in points.items()]
    labels = _labels({name: (across(one.x) + 8, down(one.y.mean)) for name, one in points.items()}, accents)
    return _drawing([*_frame(axes, _x_ticks(xs, log), across, down, ends), *marks, *labels])


def lines(series: Mapping[str, Sequence[Point]], axes: Axes, accents: Sequence[str]) -> str:
    """Draw a line per name over whole numbers; those that are not accented are faint."""
    points = [point for some in series.values() for point in some]
    xs = sorted({one.x for one in points})
    ends = _y_ends(points, axes.percent)
    across, down = _x_scale(xs, False), _y_scale(ends)
    ordered = sorted(series, key=lambda name: name in accents)
    marks = [_polyline(name, series[name], across, down, _colour(name, accents)) for name in ordered]
    last = {name: some[-1] for name, some in series.items() if some and name in accents}
    labels = _labels({name: (across(one.x) + 8, down(one.y.mean)) for name, one in last.items()}, accents)
    return _drawing([*_frame(axes, xs, across, down, ends), *marks, *labels])


def _mark(name: str, point: Point, across: Scale, down: Scale, colour: str) -> str:
    x, bar, ends = across(point.x), "", ""
    if point.y.ends is not None:
        low, high = point.y.ends
        ends = f" [{low:.3g}, {high:.3g}]"
        bar = (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{down(low):.1f}" y2="{down(high):.1f}" stroke="{colour}"'
            ' stroke-width="1.5"/>'
        )
    told = escape(f"{name}: {point.y.mean:.3g}{ends} at {point.x:.3g}")
    dot = f'<circle cx="{x:.1f}" cy="{down(point.y.mean):.1f}" r="4" fill="{colour}"/>'
    return f"<g><title>{told}</title>{bar}{dot}</g>"


def _polyline(name: str, some: Sequence[Point], across: Scale, down: Scale, colour: str) -> str:
    path = " ".join(f"{across(one.x):.1f},{down(one.y.mean):.1f}" for one in some)
    width = 1 if colour == FAINT else 2
    line = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
    marks = "" if colour == FAINT else "".join(_mark(name, one, across, down, colour) for one in some)
    return f"<g><title>{escape(name)}</title>{line}</g>{marks}"


def _labels(places: Mapping[str, tuple[float, float]], accents: Sequence[str]) -> list[str]:
    """Write names beside their places, moved up or down to the nearest room that no other name has taken."""
    out: list[str] = []
    taken: list[tuple[float, float, float]] = []
    for name, (x, y) in sorted(places.items(), key=lambda item: item[1][1]):
        width = 6.2 * len(name)
        rooms = sorted(range(_TOP, _HEIGHT - _BOTTOM), key=lambda room: abs(room - y))
        free = (room for room in (y, *rooms) if not _covers(taken, x, x + width, room))
        y = next(free, y)
        taken.append((x, x + width, y))
        colour = INK if _colour(name, accents) == FAINT else _colour(name, accents)
        out.append(f'<text x="{x:.1f}" y="{y + 4:.1f}" fill="{colour}">{escape(name)}</text>')
    return out


def _covers(taken: Sequence[tuple[float, float, float]], left: float, right: float, y: float) -> bool:
    return any(left < end and right > start and abs(y - at) < _LINE for start, end, at in taken)


def _frame(axes: Axes, ticks: Sequence[float], across: Scale, down: Scale, ends: tuple[float, float]) -> list[str]:
    out: list[str] = []
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    for value in _nice(*ends):
        y, text = down(value), f"{100 * value:g} %" if axes.percent else f"{value:g}"
        out.append(f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>')
        out.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    for value in ticks:
        out.append(f'<text x="{across(value):.1f}" y="{bottom + 18}" text-anchor="middle">{value:g}</text>')
    middle = (_TOP + bottom) / 2
    out.append(f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(axes.x)}</text>')
    turned = f'transform="rotate(-90 14 {middle})" text-anchor="middle"'
    out.append(f'<text x="14" y="{middle}" {turned}>{escape(axes.y)}</text>')
    out.append(f'<line x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}" stroke="{FAINT}"/>')
    return out


def _drawing(parts: Iterable[str]) -> str:
    inner = "".join(parts)
    style = f'font-family="system-ui,sans-serif" font-size="12" fill="{INK}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" {style}>{inner}</svg>'


def _x_scale(xs: Sequence[float], log: bool) -> Scale:
    at: Scale = math.log if log else float
    low, high = at(min(xs)), at(max(xs))
    span = (high - low) or 1.0
    return lambda value: _LEFT + 24 + (at(value) - low) / span * (_WIDTH - _LEFT - _RIGHT - 48)


def _y_ends(points: Iterable[Point], percent: bool) -> tuple[float, float]:
    """Return what the y axis spans: all intervals and a little room, shares within what shares can be."""
    known = [end for one in points for end in one.y.ends or (one.y.mean,)]
    low, high = min(known), max(known)
    room = 0.05 * ((high - low) or abs(high) or 1.0)
    low, high = low - room, high + room
    return (max(low, -0.02), min(high, 1.02)) if percent else (low, high)


def _y_scale(ends: tuple[float, float]) -> Scale:
    low, high = ends
    return lambda value: _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _BOTTOM - _TOP)


def _x_ticks(xs: Sequence[float], log: bool) -> list[float]:
    if not log:
        return [value for value in _nice(min(xs), max(xs)) if min(xs) <= value <= max(xs)] or [min(xs)]
    powers = range(math.floor(math.log10(min(xs))), math.ceil(math.log10(max(xs))) + 1)
    ticks = [first * 10.0**power for power in powers for first in (1, 2, 5)]
    return [value for value in ticks if min(xs) <= value <= max(xs)]


def _nice(low: float, high: float) -> list[float]:
    """Return about five round numbers from low to high."""
    rough = ((high - low) or 1.0) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(first * power for first in (1, 2, 2.5, 5, 10) if first * power >= rough)
    return [round(place * step, 10) for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _colour(name: str, accents: Sequence[str]) -> str:
    return PALETTE[accents.index(name) % len(PALETTE)] if name in accents else FAINT
