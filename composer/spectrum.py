"""How much of a picture is fine detail, measured in the Fourier domain as CMLoRA does (arXiv:2502.04923).

A profile is the mean over pictures of log(|F| + 1e-8) of their grey values 0...255, averaged over rings of equal width
from the middle of the spectrum to the shorter side's end, and divided by its greatest value. A LoRA's frequency is its
profile's mean from 9/32 of that radius outwards: the authors' 72 of 256 at 512 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from torch import Tensor

RINGS = 32
_FINE = 9  # the first ring that is fine detail


def profile(pictures: Sequence[Tensor]) -> tuple[float, ...]:
    """Return the profile of grey pictures [h, w] in 0 to 255: a number per ring, 1 at the most."""
    import torch

    logs = torch.stack([_rings(one) for one in pictures]).mean(0)
    return tuple(round(float(one), 4) for one in logs / logs.max())


def frequency(rings: Sequence[float]) -> float:
    """Return how much of what a profile is of is fine detail."""
    fine = rings[_FINE * len(rings) // RINGS :]
    return round(sum(fine) / len(fine), 4)


def _rings(picture: Tensor) -> Tensor:
    """Return the mean logarithm of a picture's spectrum in each ring, [rings]."""
    import torch

    height, width = picture.shape
    fourier = cast(Any, torch.fft)  # which has no types
    spectrum: Tensor = fourier.fftshift(fourier.fft2(picture.double()))
    logs = torch.log(spectrum.abs() + 1e-8)
    rows, columns = torch.arange(height) - height // 2, torch.arange(width) - width // 2
    radius = (rows[:, None] ** 2 + columns[None, :] ** 2).double().sqrt()
    ring = (radius / (min(height, width) / 2) * RINGS).floor().long()
    return torch.stack([logs[ring == one].mean() for one in range(RINGS)])
