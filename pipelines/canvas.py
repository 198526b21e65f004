"""The picture that a request begins with, and the mask of what is painted anew: read and checked before any work.

A record names both by path and by the digest of their pixels, as it does LoRAs: another picture there is an error.
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from composer.errors import BadRequest
from composer.request import Start
from lora_zoo.foreign import pictures
from pipelines import decoding

if TYPE_CHECKING:
    from PIL.Image import Image

_INLINE = "data:image/"
_ASPECT = 0.02  # how far proportions may be off the picture's


@dataclass(frozen=True, eq=False)
class Canvas:
    """What a picture begins with, at its size."""

    image: Image  # RGB
    mask: Image | None  # grey: white is painted anew, black stays; None: all is


def size_of(start: Start) -> tuple[int, int]:
    """Return width and height of the picture to begin with."""
    with decoding.one_at_a_time():
        return _there(start.image, start.sha256, "picture to begin with", "--init").size


def is_there(image: str) -> bool:
    """Tell whether a picture that a request names is held inline, or is a file here."""
    return _is_inline(image) or os.path.isfile(image)


def pixels_sha256(image: str) -> str:
    """Return the digest by which a record knows the picture that it began with."""
    with decoding.one_at_a_time():
        return hashlib.sha256(opened(image, "picture to begin with").convert("RGB").tobytes()).hexdigest()


def read(start: Start, width: int, height: int) -> tuple[Start, Canvas]:
    """Return what a picture of this size begins with, and the request's part with its digests filled in."""
    with decoding.one_at_a_time():
        return _read(start, width, height)


def _read(start: Start, width: int, height: int) -> tuple[Start, Canvas]:
    image = opened(start.image, "picture to begin with").convert("RGB")
    digest = _checked(start.sha256, image.tobytes(), start.image, "picture to begin with")
    mask, mask_digest = None, None
    if start.mask is not None:
        mask = _there(start.mask, start.mask_sha256, "mask", "--mask").convert("L")
        mask_digest = _checked(start.mask_sha256, mask.tobytes(), start.mask, "mask")
        mask = _fitted(mask, width, height, "mask")
        if not mask.getbbox():
            raise BadRequest(f"the mask {_named(start.mask)} is black: nothing would be painted; white is painted anew")
    filled = start.model_copy(update={"sha256": digest, "mask_sha256": mask_digest})
    return filled, Canvas(_fitted(image, width, height, "picture to begin with"), mask)


def _there(where: str, wanted: str | None, what: str, option: str) -> Image:
    """Return a picture; where a record asks for it and it is not here, tell by what it is known and how to give it."""
    try:
        return opened(where, what)
    except BadRequest as error:
        if wanted is None:
            raise
        raise BadRequest(f"{error}; the sha256 of its pixels is {wanted}: give it with {option}") from error


def opened(where: str, what: str) -> Image:
    """Return a picture that a request names by its path or holds inline; one too large is refused unread."""
    shown = f"the {what} {_named(where)}"
    if not _is_inline(where):
        return pictures.decoded(Path(where), shown, error=BadRequest)
    try:
        content = base64.b64decode(where.partition(",")[2], validate=True)
    except ValueError as error:
        raise BadRequest(f"cannot read {shown}: {error}") from error
    return pictures.decoded(content, shown, error=BadRequest)


def _checked(wanted: str | None, pixels: bytes, where: str, what: str) -> str:
    digest = hashlib.sha256(pixels).hexdigest()
    if wanted is not None and digest != wanted:
        raise BadRequest(f"the {what} {_named(where)} is not the one asked for: its pixels' sha256 is {digest}")
    return digest


def _fitted(image: Image, width: int, height: int, what: str) -> Image:
    from PIL import Image as Pillow

    if abs(image.width * height / (image.height * width) - 1) > _ASPECT:
        raise BadRequest(
            f"the {what} is {image.width}x{image.height}, which has not the proportions of a picture of "
            f"{width}x{height}; give a size of its proportions, or cut it"
        )
    return image if image.size == (width, height) else image.resize((width, height), Pillow.Resampling.LANCZOS)


def _is_inline(where: str) -> bool:
    return where.startswith(_INLINE)


def _named(where: str) -> str:
    return "of the request" if _is_inline(where) else f"'{where}'"
