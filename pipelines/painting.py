"""Pictures that begin with a picture: where latents start from, and what of the given ones stays (SDEdit,
arXiv:2108.01073; with a mask as in RePaint's one step, arXiv:2201.09865), in the arithmetic of diffusers' pipelines.

Given latents are the autoencoder's posterior, drawn from the request's generator; then the noise is drawn from it.
After each step the part that stays is replaced by the given latents with that step's noise. A latent pixel is painted
if any of its pixels is; in the finished picture the pixels that stay are the given ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from composer.request import Hires
    from pipelines.canvas import Canvas
    from pipelines.model import LoadedModel
    from pipelines.schedulers import Solver


@dataclass(frozen=True, eq=False)
class Ground:
    """Given latents, the noise of this picture, and the mask of what is painted."""

    latents: Tensor  # [1, channels, h, w]
    noise: Tensor  # the same shape
    mask: Tensor | None = None  # [1, 1, h, w], 1 is painted; None: everything
    notice: str = ""  # of what it took

    def begin(self, solver: Solver, whole: bool) -> Tensor:
        """Return what the first step begins with. With a mask, and none of the steps left out, it is noise alone."""
        if not solver.steps:
            return self.latents
        if whole and self.mask is not None:
            return self.noise * solver.init_noise_sigma
        return solver.noised(self.latents, self.noise, 0)

    def keep(self, solver: Solver, latents: Tensor, index: int) -> Tensor:
        """Return the latents after a step with what stays as it is given, at the noise that the next step expects."""
        if self.mask is None:
            return latents
        last = index + 1 == len(solver.steps)
        given = self.latents if last else solver.noised(self.latents, self.noise, index + 1)
        return (1.0 - self.mask) * given + self.mask * latents


def ground(model: LoadedModel, canvas: Canvas, generator: torch.Generator) -> Ground:
    """Return what a picture begins with, as latents."""
    latents = model.encode_image(canvas.image, generator)
    return Ground(latents, _noise(model, latents, generator), _latent_mask(canvas, latents))


def enlarged(
    model: LoadedModel, latents: Tensor, hires: Hires, size: tuple[int, int], generator: torch.Generator
) -> Ground:
    """Return what the second pass over a picture begins with; `size` is height and width of its latents."""
    notice = ""
    if hires.upscaler == "latent":
        larger = F.interpolate(latents, size, mode="bilinear")
    else:
        factor, first = model.spec.latent_factor, model.decode(latents)
        picture = first.image.resize((size[1] * factor, size[0] * factor), Image.Resampling.LANCZOS)
        larger, notice = model.encode_image(picture, generator), first.notice
    return Ground(larger, _noise(model, larger, generator), notice=notice)


def finished(canvas: Canvas | None, picture: Image.Image) -> Image.Image:
    """Return the picture with what stays as it is given, pixel by pixel; grey in a mask blends."""
    if canvas is None or canvas.mask is None:
        return picture
    return Image.composite(picture, canvas.image, canvas.mask)


def _noise(model: LoadedModel, like: Tensor, generator: torch.Generator) -> Tensor:
    return model.initial_noise(like.shape[-2], like.shape[-1], generator)


def _latent_mask(canvas: Canvas, like: Tensor) -> Tensor | None:
    if canvas.mask is None:
        return None
    pixels = torch.from_numpy(np.array(canvas.mask, dtype=np.float32) / 255.0)[None, None]
    painted = F.adaptive_max_pool2d(pixels, (like.shape[-2], like.shape[-1]))
    return (painted > 0).to(like)
