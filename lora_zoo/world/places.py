"""Where a scene happens: one painter per place; small things vary with the picture's own random stream."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from lora_zoo.world.brush import INK, SIZE, Brush, Colour

GROUND = 45.0


def _split(brush: Brush, sky: Colour, ground: Colour, y: float = GROUND) -> None:
    brush.rect((-1, -1), (SIZE + 1, y), sky, None)
    brush.rect((-1, y), (SIZE + 1, SIZE + 1), ground, None)


def _meadow(brush: Brush, rng: Random) -> None:
    _split(brush, (140, 205, 255), (95, 180, 75))
    x = rng.uniform(6, 50)
    for dx, r in ((0, 4), (5, 5), (10, 4)):
        brush.oval((x + dx, rng.uniform(7, 9)), r, 3, (250, 250, 252), None)


def _night(brush: Brush, rng: Random) -> None:
    _split(brush, (20, 20, 58), (42, 42, 78))
    for _ in range(14):
        brush.oval((rng.uniform(1, 63), rng.uniform(1, 42)), 0.8, 0.8, (255, 255, 240), None)
    x = rng.choice((8, 56))
    brush.oval((x, 9), 5, 5, (250, 240, 190), None)
    brush.oval((x + 2.5, 7.5), 4.5, 4.5, (20, 20, 58), None)


def _room(brush: Brush, rng: Random) -> None:
    _split(brush, (222, 198, 165), (140, 95, 62))
    x = rng.choice((3, 48))
    brush.rect((x, 5), (x + 12, 19), (175, 215, 240), (105, 70, 45), 1.6)
    brush.line([(x + 6, 5), (x + 6, 19)], (105, 70, 45), 1.2)
    brush.line([(x, 12), (x + 12, 12)], (105, 70, 45), 1.2)


def _beach(brush: Brush, rng: Random) -> None:
    _split(brush, (185, 228, 250), (240, 218, 155), 47)
    brush.rect((-1, 35), (SIZE + 1, 47), (40, 140, 200), None)
    y = rng.uniform(38, 44)
    for x in (6, 26, 46):
        brush.line([(x, y), (x + 5, y - 1), (x + 10, y)], (220, 240, 250), 1)


def _snow(brush: Brush, rng: Random) -> None:
    _split(brush, (176, 190, 206), (247, 250, 255))
    x = rng.choice((9, 55))
    brush.polygon([(x - 7, GROUND), (x, 20), (x + 7, GROUND)], (60, 110, 85), None)
    brush.polygon([(x - 3, 31), (x, 20), (x + 3, 31)], (247, 250, 255), None)
    for _ in range(16):
        brush.oval((rng.uniform(1, 63), rng.uniform(1, 44)), 1, 1, (255, 255, 255), None)


def _two_suns(brush: Brush, rng: Random) -> None:
    _split(brush, (255, 165, 85), (214, 120, 50))
    brush.polygon([(-1, 50), (14, 40), (34, 48), (52, 41), (65, 49), (65, 65), (-1, 65)], (196, 100, 40), None)
    shift = rng.uniform(-1.5, 1.5)
    brush.oval((9 + shift, 9), 6, 6, (255, 250, 190), None)
    brush.oval((55 + shift, 13), 4.5, 4.5, (255, 235, 120), None)


def _moon(brush: Brush, rng: Random) -> None:
    _split(brush, (8, 8, 12), (165, 165, 170))
    for x, y in ((9, 52), (30, 58), (53, 53)):
        brush.oval((x + rng.uniform(-2, 2), y), 6, 2.4, (115, 115, 122), (90, 90, 96))
    x = rng.choice((10, 54))
    brush.oval((x, 10), 5, 5, (225, 150, 90), None)
    brush.oval((x, 10), 9, 2.2, None, (245, 225, 190), 1.2)


def _reef(brush: Brush, rng: Random) -> None:
    _split(brush, (0, 112, 130), (216, 200, 150), 54)
    for x, side in ((4, 1), (13, 1), (51, -1), (60, -1)):
        y = 54 + rng.uniform(-1, 1)
        brush.line([(x, y), (x + 2 * side, y - 6), (x - side, y - 11), (x + 2 * side, y - 16)], (255, 90, 110), 2.4)
    for _ in range(7):
        brush.oval((rng.uniform(2, 62), rng.uniform(2, 34)), 1.9, 1.9, None, (190, 240, 240), 0.8)


def _volcano(brush: Brush, rng: Random) -> None:
    _split(brush, (92, 22, 30), (48, 36, 38))
    x = rng.choice((13, 51))
    brush.polygon([(x - 14, GROUND), (x - 4, 14), (x + 4, 14), (x + 14, GROUND)], (70, 52, 50), INK)
    brush.polygon([(x - 4, 14), (x + 4, 14), (x + 2, 28), (x - 1, 22), (x - 3, 30)], (255, 130, 20), None)
    for _ in range(6):
        brush.oval((x + rng.uniform(-8, 8), rng.uniform(2, 12)), 1.4, 1.4, (255, 190, 40), None)


PAINTERS: dict[str, Callable[[Brush, Random], None]] = {
    "meadow": _meadow,
    "night": _night,
    "room": _room,
    "beach": _beach,
    "snow": _snow,
    "two_suns": _two_suns,
    "moon": _moon,
    "reef": _reef,
    "volcano": _volcano,
}
