"""What is typed of a picture to begin with, and of a second pass, over what a record holds of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from composer.errors import BadRequest
from composer.request import RenderRequest
from pipelines import canvas


@dataclass(frozen=True)
class StartFlags:
    """The options as typed; None means "not given"."""

    init: Path | None = None
    mask: Path | None = None
    strength: float | None = None
    hires: float | None = None
    hires_strength: float | None = None
    hires_steps: int | None = None
    hires_upscaler: str | None = None


def started(flags: StartFlags, recorded: RenderRequest | None) -> dict[str, object]:
    """Return the keys of a request that the options decide, laid over the recorded ones."""
    before = recorded.start.model_dump() if recorded and recorded.start else {}
    if flags.init is not None:
        before = _begun(str(flags.init), before)
    masked = {"mask": str(flags.mask), "mask_sha256": None} if flags.mask is not None else {}
    typed = {**masked, **_given(strength=flags.strength)}
    if typed and not before:
        raise BadRequest("--mask and --strength belong to --init: name the picture to begin with")
    twice = recorded.hires.model_dump() if recorded and recorded.hires else {}
    second = _given(
        scale=flags.hires,
        strength=flags.hires_strength,
        num_inference_steps=flags.hires_steps,
        upscaler=flags.hires_upscaler,
    )
    if second and not twice and flags.hires is None:
        raise BadRequest("--hires-strength, --hires-steps and --hires-upscaler belong to --hires: give its scale")
    found = {"start": {**before, **typed}, "hires": {**twice, **second}}
    return {key: value for key, value in found.items() if value}


def _begun(image: str, before: Mapping[str, object]) -> Mapping[str, object]:
    """Return what is known of a picture to begin with: nothing but its place, but of one that a record lacks all."""
    wanted, named = before.get("sha256"), str(before.get("image", ""))
    if wanted is None or canvas.is_there(named) or canvas.pixels_sha256(image) != wanted:
        return {"image": image}
    return {**before, "image": image}


def _given(**values: object) -> Mapping[str, object]:
    return {key: value for key, value in values.items() if value is not None}
