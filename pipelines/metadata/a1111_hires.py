"""A second pass in A1111's words, written and read.

There, `Hires steps` are those that are done, as many as the first pass has if nothing is said; here a share of a number
of steps is done. And `Denoising strength` is the second pass's if there is one, otherwise that of a picture to begin
with, of which such a text says nothing more: with both, the second pass's has a key of ours.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Literal

from composer.request import Hires, RenderRequest
from pipelines.metadata.found import Draft, as_number, decimal, shown

_OWN_STRENGTH = "Hires strength"
_SIZE = re.compile(r"(\d{1,6})\s*x\s*(\d{1,6})")
_MOST_STEPS = 1000


def written(request: RenderRequest) -> dict[str, str]:
    """Return the pairs for a picture to begin with and for a second pass; empty values are to be left out."""
    begun, hires = request.start, request.hires
    if hires is None:
        return {} if begun is None else {"Denoising strength": decimal(begun.strength)}
    count = hires.num_inference_steps or request.num_inference_steps or 0
    return {
        "Denoising strength": decimal(hires.strength if begun is None else begun.strength),
        _OWN_STRENGTH: "" if begun is None else decimal(hires.strength),
        "Hires upscale": decimal(hires.scale),
        "Hires steps": str(int(count * hires.strength)),
        "Hires upscaler": "Latent" if hires.upscaler == "latent" else "Lanczos",
    }


def read(draft: Draft, settings: dict[str, str]) -> Hires | None:
    """Take a second pass out of the settings; what of it cannot be taken is told, and left there if it has a key."""
    scale = _scale(draft, settings)
    if scale is None:
        return None
    strength = _strength(settings)
    if strength is None:
        draft.note(f"Hires upscale: {scale:g}, without a strength from 0 to 1; no second pass is made")
        return None
    done = as_number(settings.pop("Hires steps", None)) or draft.numbers.get("steps")
    count = None if done is None else _steps_of_which(done, strength)
    if count is None:
        draft.note("Hires steps: not a number of steps that can be taken; as many as the first pass has are counted")
    return Hires(scale=scale, strength=strength, num_inference_steps=count, upscaler=_upscaler(draft, settings))


def _scale(draft: Draft, settings: dict[str, str]) -> float | None:
    if (stated := settings.get("Hires upscale")) is not None:
        scale = as_number(stated)
    elif (stated := settings.get("Hires resize")) is not None:
        scale = _ratio(stated, draft)
    else:
        return None
    if scale is None or not 1 < scale <= 8:
        return None  # the pair stays among the settings, all of which are told
    settings.pop("Hires upscale", None)
    settings.pop("Hires resize", None)
    return float(scale)


def _ratio(size: str, draft: Draft) -> float | None:
    """Return how much larger a size is than the first pass's; None if it is not of the same shape."""
    match, width, height = _SIZE.fullmatch(size.strip()), draft.numbers.get("width"), draft.numbers.get("height")
    if match is None or not width or not height:
        return None
    wide, high = Fraction(int(match[1]), int(width)), Fraction(int(match[2]), int(height))
    return float(wide) if wide == high else None


def _strength(settings: dict[str, str]) -> float | None:
    key = _OWN_STRENGTH if _OWN_STRENGTH in settings else "Denoising strength"
    strength = as_number(settings.get(key))
    if strength is None or not 0 < strength <= 1:
        return None
    del settings[key]
    return float(strength)


def _steps_of_which(done: float, strength: float) -> int | None:
    """Return the least number of steps of which `strength` is so many done ones."""
    if done != int(done) or not 1 <= done <= _MOST_STEPS:
        return None
    count = math.floor(done / strength)
    while int(count * strength) < done:
        count += 1
    return count if count <= _MOST_STEPS else None


def _upscaler(draft: Draft, settings: dict[str, str]) -> Literal["pixels", "latent"]:
    stated = settings.pop("Hires upscaler", "")
    if stated in ("Latent", "Lanczos"):
        return "latent" if stated == "Latent" else "pixels"
    near = "latent" if stated.startswith("Latent") else "pixels"
    draft.note(f"Hires upscaler: {shown(stated) if stated else 'not found in the picture'}; {near} is used")
    return near
