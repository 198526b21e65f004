"""Gradient fusion of Mix-of-Show (arXiv:2305.18292), in closed form: the equations are in merges/regression.py.

Staged as in the paper: the text encoder, on each member's own prompt; the keys and values of cross-attention, on the
prompt as the fused text encoder reads it; all other layers, on what a short sampling of the prompt without guidance
brings them, while the layers of the first two stages are those fused.
Deviations from the authors' code: solved exactly instead of by LBFGS; every position of the prompt that the model reads
counts, not the concept's tokens and the end alone; one prompt per LoRA; and convolutions, which their LoRAs lack. With
a window of 3 x 3 these have nine times the inputs, and the equations the square of that: they are solved within the
rows of the members, which is SSR's form.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from pipelines.fitting.base import Fit, Fitted, Member
from pipelines.progress import Watch

if TYPE_CHECKING:
    from pipelines.fitting.studio import Studio

_KEYS_AND_VALUES = re.compile(r"attn2\.to_[kv]$")


def _windowed(shape: Sequence[int]) -> bool:
    return math.prod(shape[2:]) > 1


class GradientFusion(Fit):
    """Do in each layer what each LoRA does alone, on the inputs that it has there."""

    steps: int = Field(default=20, ge=1, le=1000, description="Denoising steps of the sampling that is listened to.")
    ridge: float = Field(default=1e-6, gt=0.0, le=1.0, description="Pulls towards no change, where inputs say little.")
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Of the noise that sampling starts from.")

    def fit(self, studio: Studio, members: Sequence[Member], watch: Watch) -> Fitted:
        from pipelines.fitting.stages import Rules, Stage, fit

        stages = (
            Stage("text encoder", lambda target: target[0] == "text_encoder", 1),
            Stage("keys and values", lambda target: bool(_KEYS_AND_VALUES.search(target[1])), 1),
            Stage("other layers", lambda _: True, self.steps),
        )
        return fit(studio, members, Rules(stages, self.ridge, self.seed, _windowed), watch)
