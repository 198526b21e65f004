"""Curves over one axis from 0 to 1, each in a colour of its own, with a legend."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

_WIDTH, _HEIGHT, _LEFT, _TOP, _LINE = 560, 360, 56, 40, 18
_LEGEND = 220
_INK, _FAINT, _PAPER = (24, 24, 24), (205, 205, 205), (255, 255, 255)


def draw(title: str, below: str, curves: Mapping[str, Sequence[float]]) -> Image.Image:
    """Draw named curves; the vertical axis spans their values."""
    tall = max(_HEIGHT + 2 * _TOP, _TOP + _LINE * len(curves) + _TOP)
    page = Image.new("RGB", (_LEFT + _WIDTH + _LEGEND, tall), _PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    low, high = min(map(min, curves.values())), max(map(max, curves.values()))
    pen.text((_LEFT, _TOP // 3), title, _INK, font)
    pen.text((_LEFT, _TOP + _HEIGHT + 6), below, _INK, font)
    for part in range(5):
        y = _TOP + _HEIGHT * part // 4
        pen.line((_LEFT, y, _LEFT + _WIDTH, y), _FAINT)
        pen.text((8, y - 8), f"{high - (high - low) * part / 4:.2f}", _INK, font)
    for place, (name, values) in enumerate(curves.items()):
        colour = _colour(place, len(curves))
        xs = [_LEFT + _WIDTH * step / max(len(values) - 1, 1) for step in range(len(values))]
        ys = [_TOP + _HEIGHT * (high - value) / ((high - low) or 1.0) for value in values]
        pen.line(list(zip(xs, ys, strict=True)), colour, 2)
        top = _TOP + _LINE * place
        pen.rectangle((_LEFT + _WIDTH + 14, top + 3, _LEFT + _WIDTH + 26, top + 13), colour)
        pen.text((_LEFT + _WIDTH + 32, top), name, _INK, font)
    return page


def _colour(place: int, count: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(place / count, 0.85, 0.8 if place % 2 else 0.6)
    return round(255 * red), round(255 * green), round(255 * blue)
