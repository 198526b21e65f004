"""Pages of small pictures in rows, enlarged by whole pixels, with a heading per row and words under each picture."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from pipelines.sheet import Tile

_GAP = 8
_LINE = 16  # pixels per line of text
_LETTER = 6.5  # pixels, the mean width of a letter
_INK, _FAINT, _PAPER = (24, 24, 24), (110, 110, 110), (255, 255, 255)


@dataclass(frozen=True, eq=False)
class Row:
    """Pictures side by side under a heading; an empty heading takes no room."""

    heading: str
    tiles: tuple[Tile, ...]


def page(rows: Sequence[Row], scale: int = 2) -> Image.Image:
    """Lay out rows of pictures; all columns are as wide as the widest picture."""
    side = max(tile.image.width for row in rows for tile in row.tiles) * scale
    width = _GAP + max(len(row.tiles) for row in rows) * (side + _GAP)
    blocks = [_block(row, width, side, scale) for row in rows]
    sheet = Image.new("RGB", (width, _GAP + sum(block.height for block in blocks)), _PAPER)
    top = _GAP
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    return sheet


def bare(pictures: Sequence[Image.Image], columns: int, scale: int = 2) -> Image.Image:
    """Lay out pictures without a word."""
    starts = range(0, len(pictures), columns)
    rows = [Row("", tuple(Tile("", "", one) for one in pictures[start : start + columns])) for start in starts]
    return page(rows, scale)


def _block(row: Row, width: int, side: int, scale: int) -> Image.Image:
    font = ImageFont.load_default(12)
    lines = textwrap.wrap(row.heading, int((width - 2 * _GAP) / _LETTER))
    words = [_words(tile, side) for tile in row.tiles]
    top, tall = _LINE * len(lines), max(tile.image.height for tile in row.tiles) * scale
    block = Image.new("RGB", (width, top + tall + _LINE * max(map(len, words)) + _GAP), _PAPER)
    pen = ImageDraw.Draw(block)
    for place, line in enumerate(lines):
        pen.text((_GAP, place * _LINE), line, _INK, font)
    for place, (tile, under) in enumerate(zip(row.tiles, words, strict=True)):
        size = (tile.image.width * scale, tile.image.height * scale)
        left = _GAP + place * (side + _GAP)
        block.paste(tile.image.convert("RGB").resize(size, Image.Resampling.NEAREST), (left, top))
        for number, (line, colour) in enumerate(under):
            pen.text((left, top + tall + 1 + number * _LINE), line, colour, font)
    return block


def _words(tile: Tile, side: int) -> list[tuple[str, tuple[int, int, int]]]:
    """Return the lines under a picture, none wider than it."""
    letters = max(8, int(side / _LETTER))
    titles, notes = (textwrap.wrap(text, letters) for text in (tile.title, tile.note))
    return [*((line, _INK) for line in titles), *((line, _FAINT) for line in notes)]
