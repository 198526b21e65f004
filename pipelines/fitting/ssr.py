"""SSR-Merge (arXiv:2606.10617): delta = up @ R @ down, with the R of merges/regression.py; R = I is the sum.

Per layer it needs matrices of the size of the ranks only, so that no layer is too wide. One prompt per LoRA, as in the
paper. Deviations: a few denoising steps are listened to instead of one; the ridge is relative to the mean of the
diagonal of what it is added to; the text encoder is merged in the same way, in the same drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from pipelines.fitting.base import Fit, Fitted, Member
from pipelines.progress import Watch

if TYPE_CHECKING:
    from pipelines.fitting.studio import Studio


class Ssr(Fit):
    """Route what each LoRA reads to what it writes, free of the others' echoes."""

    steps: int = Field(default=4, ge=1, le=1000, description="Denoising steps of the sampling that is listened to.")
    ridge: float = Field(default=1e-6, gt=0.0, le=1.0, description="Pulls towards no change, where inputs say little.")
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Of the noise that sampling starts from.")

    def fit(self, studio: Studio, members: Sequence[Member], watch: Watch) -> Fitted:
        from pipelines.fitting.stages import Rules, Stage, fit

        everything = Stage("all layers", lambda _: True, self.steps)
        return fit(studio, members, Rules((everything,), self.ridge, self.seed, lambda _: True), watch)
