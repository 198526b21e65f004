"""A drawing surface in the world's own units (64 across), drawn finer and reduced, so that edges are smooth."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

SIZE = 64
FINE = 3  # drawn at three times the size, then averaged down
INK = (22, 20, 24)

Colour = tuple[int, int, int]
Point = tuple[float, float]


class Brush:
    """Draws in a local frame: `origin` in picture units, `scale` for smaller figures, `side` -1 mirrors."""

    def __init__(self, image: Image.Image, origin: Point = (0, 0), scale: float = 1.0, side: int = 1) -> None:
        self._draw = ImageDraw.Draw(image)
        self._image, self._origin, self._scale, self._side = image, origin, scale, side

    def at(self, origin: Point, scale: float, side: int = 1) -> Brush:
        """Return a brush on the same picture in another frame."""
        return Brush(self._image, origin, scale, side)

    def _px(self, p: Point) -> Point:
        return (
            (self._origin[0] + self._side * self._scale * p[0]) * FINE,
            (self._origin[1] + self._scale * p[1]) * FINE,
        )

    def _width(self, line: float) -> int:
        return max(2, round(line * self._scale * FINE))

    def _box(self, centre: Point, rx: float, ry: float) -> tuple[Point, Point]:
        x, y = self._px(centre)
        rx, ry = rx * self._scale * FINE, ry * self._scale * FINE
        return (x - rx, y - ry), (x + rx, y + ry)

    def oval(
        self, centre: Point, rx: float, ry: float, fill: Colour | None, ink: Colour | None = INK, line: float = 1.3
    ) -> None:
        self._draw.ellipse(self._box(centre, rx, ry), fill, ink, self._width(line) if ink else 0)

    def polygon(
        self, points: Sequence[Point], fill: Colour | None, ink: Colour | None = INK, line: float = 1.3
    ) -> None:
        px = [self._px(p) for p in points]
        if fill:
            self._draw.polygon(px, fill)
        if ink:
            self._draw.line([*px, px[0], px[1]], ink, self._width(line), joint="curve")

    def rect(self, a: Point, b: Point, fill: Colour | None, ink: Colour | None = INK, line: float = 1.3) -> None:
        self.polygon([a, (b[0], a[1]), b, (a[0], b[1])], fill, ink, line)

    def line(self, points: Sequence[Point], ink: Colour = INK, line: float = 1.3) -> None:
        self._draw.line([self._px(p) for p in points], ink, self._width(line), joint="curve")

    def half_oval(self, centre: Point, rx: float, ry: float, fill: Colour) -> None:
        """The upper half of an oval, closed along its middle."""
        self._draw.chord(self._box(centre, rx, ry), 180, 360, fill, INK, self._width(1.3))
