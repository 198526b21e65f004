"""Bodies, faces, garments and held things, drawn in a figure's own frame.

The frame's origin is the middle of the body, which reaches about 12 units to each side and 16 up and down;
a mirrored brush puts the held thing on the other side.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from lora_zoo.world.brush import INK, Brush, Colour, Point

WHITE = (250, 250, 250)
GOLD = (245, 190, 30)


def _star(rx: float, ry: float, spikes: int, inner: float) -> list[Point]:
    turns = [i * math.pi / spikes for i in range(2 * spikes)]
    sizes = [1.0 if i % 2 == 0 else inner for i in range(2 * spikes)]
    return [(rx * s * math.sin(t), -ry * s * math.cos(t)) for t, s in zip(turns, sizes, strict=True)]


def body(brush: Brush, shape: str, fill: Colour) -> None:
    """Draw one of the base shapes."""
    if shape == "round":
        brush.oval((0, 0), 14, 14, fill)
    elif shape == "square":
        brush.rect((-12, -13), (12, 13), fill)
    elif shape == "triangular":
        brush.polygon([(0, -18), (14.5, 14), (-14.5, 14)], fill)
    else:
        brush.oval((0, -1), 8.5, 17, fill)


def limbs(brush: Brush) -> None:
    """Draw arms and legs; they go behind the body."""
    for x in (-5, 5):
        brush.line([(x, 10), (x, 19.5)], INK, 3)
    for x in (-1, 1):
        brush.line([(x * 7, 2), (x * 17, 4)], INK, 2)


def face(brush: Brush) -> None:
    """Draw the plain face of a base creature."""
    for x in (-4, 4):
        brush.oval((x, -4), 2.9, 2.9, WHITE, INK, 1)
        brush.oval((x, -4), 1.2, 1.2, INK, None)
    brush.line([(-2.5, 1.5), (2.5, 1.5)], INK, 1.2)


def _zorp(brush: Brush) -> None:
    brush.line([(0, -13), (0, -21)], INK, 1.6)
    brush.oval((0, -21.5), 2.8, 2.8, (255, 235, 60))
    brush.half_oval((0, 13), 13.5, 27, (30, 170, 165))
    brush.oval((0, -4), 5.8, 5.8, WHITE)
    brush.oval((0, -4), 2.6, 2.6, INK, None)


def _bolt(brush: Brush) -> None:
    for x in (-1, 1):
        brush.rect((x * 10, -8), (x * 15.5, -2), (90, 95, 105))
    brush.rect((-11.5, -14), (11.5, 13), (168, 176, 190))
    brush.rect((-8.5, -9), (8.5, -3), (20, 24, 34))
    brush.rect((-6, -7.2), (6, -4.8), (255, 60, 50), None)
    for x in (-8.5, 8.5):
        brush.oval((x, 1.5), 1.5, 1.5, INK, None)
    for x in (-3.5, 0, 3.5):
        brush.line([(x, 0), (x, 4)], INK, 1.2)


def _quill(brush: Brush) -> None:
    brush.polygon(_star(19, 19, 9, 0.66), (165, 220, 40))
    for x, y in ((-4.6, -4.5), (4.6, -4.5), (0, 2.2)):
        brush.oval((x, y), 2.5, 2.5, WHITE, INK, 1)
        brush.oval((x, y), 1.1, 1.1, INK, None)


def _krag(brush: Brush) -> None:
    for x in (-1, 1):
        brush.polygon([(x * 11.5, -12), (x * 3.5, -13), (x * 12.5, -23)], WHITE)
    brush.rect((-12.5, -13), (12.5, 13), (240, 120, 25))
    for x in (-1, 1):
        brush.oval((x * 5, -4), 2.7, 2.7, (255, 240, 90), INK, 1)
        brush.line([(x * 9, -9), (x * 2, -6)], INK, 1.8)
    brush.line([(-6, 3), (-3, 1), (0, 3), (3, 1), (6, 3)], INK, 1.4)


def _momo(brush: Brush) -> None:
    for x in (-1, 1):
        brush.oval((x * 10.5, -13), 7, 7, (150, 150, 158))
        brush.oval((x * 10.5, -13), 3.8, 3.8, (245, 170, 180), None)
    brush.oval((0, 0), 11.5, 14.5, (150, 150, 158))
    for x in (-1, 1):
        brush.oval((x * 4, -5), 1.7, 1.7, INK, None)
        brush.line([(x * 2.5, 0), (x * 9, -1.5)], INK, 0.9)
        brush.line([(x * 2.5, 1), (x * 9, 2)], INK, 0.9)
    brush.oval((0, -0.5), 1.8, 1.5, (240, 80, 110), None)


def _hoot(brush: Brush) -> None:
    for x in (-1, 1):
        brush.polygon([(x * 11, -10), (x * 3, -13), (x * 11, -20)], (120, 72, 35))
    brush.oval((0, 0), 12.5, 15, (120, 72, 35))
    for x in (-1, 1):
        brush.oval((x * 5, -5), 5, 5, (255, 225, 110), INK, 1)
        brush.oval((x * 5, -5), 2.2, 2.2, INK, None)
    brush.polygon([(-2.2, -2), (2.2, -2), (0, 3)], (255, 140, 20), INK, 0.9)


CHARACTERS: dict[str, Callable[[Brush], None]] = {
    "zorp": _zorp,
    "bolt": _bolt,
    "quill": _quill,
    "krag": _krag,
    "momo": _momo,
    "hoot": _hoot,
}


def _skirt(brush: Brush, fill: Colour) -> None:
    brush.polygon([(-9, 5), (9, 5), (16, 15), (-16, 15)], fill)


def _shirt(brush: Brush, fill: Colour) -> None:
    for x in (-1, 1):
        brush.line([(x * 8, 4), (x * 14.5, 5)], INK, 5)
        brush.line([(x * 8, 4), (x * 14, 5)], fill, 3)
    brush.rect((-11, 3.5), (11, 12.5), fill)


def _scarf(brush: Brush, fill: Colour) -> None:
    brush.polygon([(3, 6), (8, 6), (8.5, 15), (3.5, 15)], fill)
    brush.polygon([(-12, 3.5), (12, 3.5), (12, 7.5), (-12, 7.5)], fill)


def _striped_vest(brush: Brush, _: Colour) -> None:
    brush.rect((-13, 3), (13, 14), WHITE, None)
    for y in (4.2, 8.6, 13.0):
        brush.rect((-13, y - 1.1), (13, y + 1.1), INK, None)
    brush.rect((-13, 3), (13, 14), None)


def _dotted_gown(brush: Brush, _: Colour) -> None:
    brush.polygon([(-8, 3), (8, 3), (16.5, 18.5), (-16.5, 18.5)], (225, 40, 140))
    for x, y in ((-4, 6.5), (4, 6.5), (-8.5, 11), (0, 11), (8.5, 11), (-12, 15.7), (-4, 15.7), (4, 15.7), (12, 15.7)):
        brush.oval((x, y), 1.6, 1.6, WHITE, None)


def _checked_apron(brush: Brush, _: Colour) -> None:
    brush.rect((-9, 3), (9, 17), WHITE, None)
    for i in range(4):
        for j in range(3):
            if (i + j) % 2 == 0:
                x, y = -9 + 4.5 * i, 3 + 4.667 * j
                brush.rect((x, y), (x + 4.5, y + 4.667), (215, 35, 45), None)
    brush.rect((-9, 3), (9, 17), None)


def _zigzag_poncho(brush: Brush, _: Colour) -> None:
    brush.polygon([(0, 2), (7, 3), (17, 12), (0, 18), (-17, 12), (-7, 3)], (250, 205, 50))
    brush.line([(-12, 11), (-8, 7.5), (-4, 12), (0, 8), (4, 12), (8, 7.5), (12, 11)], (110, 40, 160), 2.2)


GARMENTS: dict[str, Callable[[Brush, Colour], None]] = {
    "skirt": _skirt,
    "shirt": _shirt,
    "scarf": _scarf,
    "striped_vest": _striped_vest,
    "dotted_gown": _dotted_gown,
    "checked_apron": _checked_apron,
    "zigzag_poncho": _zigzag_poncho,
}


def _ball(brush: Brush) -> None:
    brush.oval((21, 3), 4.8, 4.8, (255, 140, 30))
    brush.line([(17.4, 3), (24.6, 3)], INK, 0.9)


def _flag(brush: Brush) -> None:
    brush.line([(18, 10), (18, -14)], INK, 1.8)
    brush.polygon([(18, -14), (28, -10.5), (18, -6)], (60, 190, 90))


def _box(brush: Brush) -> None:
    brush.rect((16, -1), (26, 9), (165, 110, 60))
    brush.line([(21, -1), (21, 9)], (240, 225, 180), 1.8)
    brush.line([(16, 4), (26, 4)], (240, 225, 180), 1.8)


def _flower(brush: Brush) -> None:
    brush.line([(19, 10), (19, -4)], (30, 110, 40), 1.7)
    for i in range(5):
        turn = 2 * math.pi * i / 5
        brush.oval((19 + 3.6 * math.sin(turn), -7 - 3.6 * math.cos(turn)), 2.7, 2.7, (255, 120, 180), INK, 0.7)
    brush.oval((19, -7), 2.3, 2.3, (255, 225, 60), None)


def _trident(brush: Brush) -> None:
    brush.line([(20, 17), (20, -19)], GOLD, 2.2)
    brush.line([(14.5, -19), (14.5, -10), (25.5, -10), (25.5, -19)], GOLD, 2.2)


def _lightning(brush: Brush) -> None:
    points = [(22, -18), (15, -2), (20, -2), (16.5, 11), (27, -6), (21.5, -6), (26.5, -18)]
    brush.polygon(points, (255, 240, 40), INK, 1.1)


def _umbrella(brush: Brush) -> None:
    brush.line([(19, 9), (19, -14)], INK, 1.6)
    brush.half_oval((19, -9), 10.5, 10.5, (220, 40, 50))
    brush.polygon([(15, -9.6), (23, -9.6), (20.6, -18.6), (17.4, -18.6)], WHITE, None)


def _ice_cream(brush: Brush) -> None:
    brush.polygon([(15, -2), (27, -2), (21, 14)], (225, 165, 90))
    brush.oval((21, -5), 6.4, 5.4, (255, 175, 200))
    brush.oval((21, -11), 4.6, 4.2, (150, 230, 205))


OBJECTS: dict[str, Callable[[Brush], None]] = {
    "ball": _ball,
    "flag": _flag,
    "box": _box,
    "flower": _flower,
    "trident": _trident,
    "lightning": _lightning,
    "umbrella": _umbrella,
    "ice_cream": _ice_cream,
}
