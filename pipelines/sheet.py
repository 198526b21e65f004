"""Contact sheets: pictures in a row, each with a title and a note under it."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

_SIDE = 256  # pixels of a tile's longer side; small pictures are enlarged whole pixels at a time
_GAP = 16
_LINE = 20  # pixels per line of text
_INK, _FAINT, _PAPER = (24, 24, 24), (110, 110, 110), (255, 255, 255)
_LETTER = 7.5  # pixels, the mean width of a letter


@dataclass(frozen=True, eq=False)
class Tile:
    """One picture of a sheet."""

    title: str
    note: str
    image: Image.Image


def draw(heading: str, tiles: Sequence[Tile]) -> Image.Image:
    """Lay the tiles side by side under a heading."""
    width = len(tiles) * (_SIDE + _GAP) + _GAP
    lines = textwrap.wrap(heading, max(20, int((width - 2 * _GAP) / _LETTER)))
    top = _GAP + _LINE * len(lines) + _GAP // 2
    page = Image.new("RGB", (width, top + _SIDE + 2 * _LINE + _GAP), _PAPER)
    pen = ImageDraw.Draw(page)
    font, bold = ImageFont.load_default(13), ImageFont.load_default(15)
    pen.multiline_text((_GAP, _GAP), "\n".join(lines), _INK, font, spacing=_LINE - 13)
    for index, tile in enumerate(tiles):
        left = _GAP + index * (_SIDE + _GAP)
        picture = _enlarged(tile.image)
        page.paste(picture, (left + (_SIDE - picture.width) // 2, top + (_SIDE - picture.height) // 2))
        pen.text((left, top + _SIDE + 4), tile.title, _INK, bold)
        pen.text((left, top + _SIDE + 4 + _LINE), tile.note, _FAINT, font)
    return page


def png(page: Image.Image) -> bytes:
    """Return a sheet as a PNG file's bytes."""
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    return buffer.getvalue()


def _enlarged(image: Image.Image) -> Image.Image:
    longer = max(image.size)
    if longer * 2 <= _SIDE:
        times = _SIDE // longer
        return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    size = (max(1, image.width * _SIDE // longer), max(1, image.height * _SIDE // longer))
    return image.resize(size, Image.Resampling.LANCZOS)
