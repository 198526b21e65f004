"""Regions as users give them: a mask's file is read once and written into the request, at the size of the latents.

So a record repeats its picture without the file, and whoever plans sees values only.
"""

from __future__ import annotations

import base64
from io import BytesIO
from typing import TYPE_CHECKING

from composer.errors import BadRequest
from composer.masks import Box, Drawn
from composer.plan import JobRegion
from composer.request import Region
from pipelines import canvas

if TYPE_CHECKING:
    from PIL.Image import Image

_INLINE = "data:image/png;base64,"
_ASPECT = 0.02  # how far a mask's proportions may be off the picture's


def inlined(region: Region, height: int, width: int) -> Region:
    """Return a region without a file: its mask as a grey PNG of the latents' size, in base64."""
    if region.mask is None:
        return region
    from PIL import Image

    mask = _read(region.mask)
    if abs(mask.width * height / (mask.height * width) - 1) > _ASPECT:
        raise BadRequest(
            f"the mask {_name(region.mask)} is {mask.width}x{mask.height}, which has not the picture's proportions, "
            f"{width}:{height}"
        )
    if mask.size != (width, height):
        mask = mask.resize((width, height), Image.Resampling.BOX)
    if not mask.getbbox():
        raise BadRequest(
            f"the mask {_name(region.mask)} is black at the picture's {width}x{height} latents: its LoRA would act "
            "nowhere; white is where it acts"
        )
    buffer = BytesIO()
    mask.save(buffer, "PNG")
    return region.model_copy(update={"mask": _INLINE + base64.b64encode(buffer.getvalue()).decode("ascii")})


def placed(region: Region, prompt: str) -> JobRegion:
    """Return an inlined region as a plan sees it."""
    text = prompt if region.prompt is None else region.prompt
    if region.box is not None:
        return JobRegion(Box(*region.box), text)
    mask = _read(region.mask or "")
    return JobRegion(Drawn(mask.height, mask.width, mask.tobytes()), text)


def _read(mask: str) -> Image:
    return canvas.opened(mask, "mask").convert("L")


def _name(mask: str) -> str:
    return "of the request" if mask.startswith(_INLINE) else f"'{mask}'"
