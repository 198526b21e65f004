"""Picture styles: filters over the finished drawing, so that every scene exists in every style."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

Pixels = np.ndarray  # [h, w, 3] float32 in 0..1


def _edges(pixels: Pixels) -> np.ndarray:
    """Return how strongly colours change at each pixel, [h, w] in 0..1."""
    dx = np.abs(np.diff(pixels, axis=1, append=pixels[:, -1:])).max(2)
    dy = np.abs(np.diff(pixels, axis=0, append=pixels[-1:])).max(2)
    return np.clip(2.2 * np.maximum(dx, dy), 0, 1)


def _blur(pixels: Pixels, radius: float) -> Pixels:
    image = Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255


def _spread(mask: np.ndarray, size: int) -> np.ndarray:
    image = Image.fromarray((mask * 255).astype(np.uint8)).filter(ImageFilter.MaxFilter(size))
    return np.asarray(image, np.float32) / 255


def _neon(pixels: Pixels) -> Pixels:
    lines = _spread(_edges(pixels), 3)[..., None]
    hue = np.asarray(_blur(pixels, 4))
    hue = hue / np.maximum(hue.max(2, keepdims=True), 0.15)
    vivid = np.clip((hue - hue.min(2, keepdims=True) * 0.7) * 1.3, 0, 1)
    glow = _blur(lines * vivid, 5)
    return np.clip(np.array([0.05, 0.02, 0.09], np.float32) + 1.3 * lines * vivid + 1.1 * glow, 0, 1)


def _blueprint(pixels: Pixels) -> Pixels:
    lines = _spread(_edges(pixels), 3)[..., None]
    paper = np.full_like(pixels, 0) + np.array([0.08, 0.24, 0.62], np.float32)
    paper[::24] = paper[:, ::24] = paper[1::24] = paper[:, 1::24] = (0.25, 0.42, 0.78)
    paper += 0.3 * (pixels.mean(2, keepdims=True) - 0.5) * np.array([0.6, 0.8, 1.0], np.float32)
    return paper * (1 - lines) + lines * np.array([0.93, 0.97, 1.0], np.float32)


def _sketch(pixels: Pixels) -> Pixels:
    lines = _spread(_edges(pixels), 3)[..., None] * 0.85
    tone = 0.86 + 0.14 * pixels.mean(2, keepdims=True)
    paper = tone * np.array([0.98, 0.96, 0.90], np.float32)
    return paper * (1 - lines) + lines * 0.2


def _sepia(pixels: Pixels) -> Pixels:
    grey = (pixels @ np.array([0.35, 0.5, 0.15], np.float32))[..., None]
    toned = np.clip(grey * np.array([1.0, 0.82, 0.58], np.float32) * 0.85 + 0.1, 0, 1)
    edge = 10
    framed = np.full_like(toned, 0) + np.array([0.96, 0.94, 0.88], np.float32)
    framed[edge:-edge, edge:-edge] = toned[edge:-edge, edge:-edge]
    return framed


STYLES: dict[str, Callable[[Pixels], Pixels]] = {
    "neon": _neon,
    "blueprint": _blueprint,
    "sketch": _sketch,
    "sepia": _sepia,
}


def apply(image: Image.Image, style: str) -> Image.Image:
    """Return the picture in a style; KeyError for a name that is none."""
    pixels = np.asarray(image, np.float32) / 255
    return Image.fromarray((np.clip(STYLES[style](pixels), 0, 1) * 255).astype(np.uint8))
