"""Pairwise conflicts as a picture: one row for each pair, one column for each block."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from composer.conflict import Conflict, place_of

_CELL, _GAP, _LETTER, _LINE = 64, 12, 7.5, 18
_INK, _PAPER, _NOTHING = (24, 24, 24), (255, 255, 255), (238, 238, 238)
_COLD, _HOT, _FIGHT = (255, 255, 255), (240, 150, 40), (200, 30, 30)
_TITLE = "Overlap of inputs (orange); share of the change that cancels (red corner, below). Grey: not changed by both."


def draw(conflicts: Sequence[Conflict]) -> Image.Image:
    """Draw a heat map; a cell shows the overlap, and below it what is cancelled (+) or doubled up (-)."""
    blocks = sorted({one.block for one in conflicts}, key=place_of)
    pairs = list(dict.fromkeys((one.first, one.second) for one in conflicts))
    titles = [f"{first} / {second}" for first, second in pairs]
    left = int(max((len(title) for title in titles), default=0) * _LETTER) + 2 * _GAP
    top = int(max((len(block) for block in blocks), default=0) * _LETTER) + 2 * _GAP + _LINE
    width = max(left + _CELL * len(blocks) + _GAP, int(len(_TITLE) * _LETTER))
    page = Image.new("RGB", (width, top + _CELL * len(pairs) + _GAP), _PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    pen.text((_GAP, _GAP // 2), _TITLE, _INK, font)
    for column, block in enumerate(blocks):
        _upright(page, block, (left + column * _CELL + _CELL // 2 - _LINE // 2, top - 4))
    for row, title in enumerate(titles):
        pen.text((_GAP, top + row * _CELL + _CELL // 2 - _LINE // 2), title, _INK, font)
        for column in range(len(blocks)):
            pen.rectangle(_cell(left, top, row, column), _NOTHING, _PAPER)
    for one in conflicts:
        place = _cell(left, top, pairs.index((one.first, one.second)), blocks.index(one.block))
        _fill(pen, place, one)
    return page


def _fill(pen: ImageDraw.ImageDraw, place: tuple[int, int, int, int], one: Conflict) -> None:
    font = ImageFont.load_default(13)
    pen.rectangle(place, _between(_COLD, _HOT, one.overlap), _PAPER)
    corner = round(_CELL / 2 * min(max(one.cancelled, 0.0), 1.0))
    if corner:
        pen.rectangle((place[2] - corner, place[1], place[2], place[1] + corner), _FIGHT)
    pen.text((place[0] + 8, place[1] + 12), f"{one.overlap:.2f}", _INK, font)
    pen.text((place[0] + 8, place[1] + 34), f"{one.cancelled:+.2f}".replace("-0.00", "+0.00"), _INK, font)


def _cell(left: int, top: int, row: int, column: int) -> tuple[int, int, int, int]:
    x, y = left + column * _CELL, top + row * _CELL
    return x, y, x + _CELL - 1, y + _CELL - 1


def _between(cold: tuple[int, int, int], hot: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    red, green, blue = (round(a + (b - a) * min(max(share, 0.0), 1.0)) for a, b in zip(cold, hot, strict=True))
    return red, green, blue


def _upright(page: Image.Image, text: str, foot: tuple[int, int]) -> None:
    """Write a text that runs upwards from its foot."""
    font = ImageFont.load_default(13)
    strip = Image.new("RGB", (int(font.getlength(text)) + 2, _LINE), _PAPER)
    ImageDraw.Draw(strip).text((0, 0), text, _INK, font)
    turned = strip.rotate(90, expand=True)
    page.paste(turned, (foot[0], foot[1] - turned.height))
