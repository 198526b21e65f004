"""ZipLoRA (arXiv:2311.13600) as the paper trains it: a coefficient m for each input column, sum_i delta_i diag(m_i).

    loss = sum_i || eps(x_i, c_i; all) - eps(x_i, c_i; LoRA i) ||^2 + overlap * sum_layers sum_(i<j) | cos(m_i, m_j) |

from m = 1, the sum, with Adam; the norm is a mean over the entries. Folded into the factors, the
result has rank sum r_i, exactly. Any number of LoRAs; layers that only one of them changes stay as they are.
Deviations from the paper: x_i are not the pictures a LoRA was trained on, which its file does not hold, but some that
it draws itself; all layers of the UNet are trained, not attention alone; the text encoder is the sum. Deviations from
the authors' code: alpha / rank counts; the penalty is the paper's cosine; and the learning rate, with which 100 steps
can move a coefficient by 1 instead of by 0.005.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from pipelines.fitting.base import Fit, Fitted, Member
from pipelines.progress import Watch

if TYPE_CHECKING:
    from pipelines.fitting.studio import Studio


class ZipLoraTrained(Fit):
    """Scale each LoRA's input columns so that the model predicts what it predicts with each alone."""

    steps: int = Field(default=100, ge=0, le=100_000, description="Training steps; with 0 it is the plain sum.")
    learning_rate: float = Field(default=0.01, gt=0.0, le=1.0, description="About what a step moves a coefficient by.")
    overlap: float = Field(default=0.01, ge=0.0, le=100.0, description="Weight of the penalty on shared columns.")
    pictures: int = Field(default=4, ge=1, le=1000, description="Pictures that each LoRA draws to learn from.")
    sampling_steps: int = Field(default=20, ge=1, le=1000, description="Denoising steps of these pictures.")
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Of pictures, noise and timesteps.")

    def fit(self, studio: Studio, members: Sequence[Member], watch: Watch) -> Fitted:
        from pipelines.fitting.zip_training import train

        return train(studio, members, self, watch)
