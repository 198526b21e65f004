"""MultLFG (arXiv:2505.20525): predictions are fused band by band of a wavelet transform, with weights that change.

eps = inverse transform of sum_i w_ib * band_b(eps_i), on both guidance branches, then guidance. w_ib tells how much
LoRA i moves in band b from one step to the next.
No code is published, and the texts of the paper at hand give neither weights nor wavelet; these are ours. Haar, odd
sizes padded. d_ib = ||band_b(eps_i(c), now) - band_b(eps_i(c), a step ago)||, over the LoRAs' mean, so that temperature
has no unit; w_b = softmax over i of d_ib / temperature, of the `top` LoRAs that move most in the band; in the first
step all weights are equal. The paper asks again at the neighbouring timestep, 2N passes; here the answers of the step
before are kept, so it is N.
Text encoder: `all` by default, as for LoRA Composite, which this is when all weights are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from composer.plan import Job, Pass, Plan, Prediction, Step
from composer.prompts import prompt_name, prompt_table
from composer.registry import MethodModel, method

if TYPE_CHECKING:
    from torch import Tensor


@method("multlfg", title="MultLFG")
class MultLfg(MethodModel):
    """Blend the answers of all LoRAs by frequency: in each band, those that move most count most."""

    levels: int = Field(default=1, ge=1, le=6, description="Levels of the wavelet transform, three bands each.")
    temperature: float = Field(
        default=1.0, ge=0.0001, le=1000.0, description="Low: the LoRA that moves most wins; high: all count alike."
    )
    top: int = Field(default=0, ge=0, le=1000, description="How many LoRAs take part in a band; 0: all.")

    def start(self, job: Job) -> Plan:
        everyone = [Pass({use.name: use.weight}, prompt_name(job, use)) for use in job.adapters]
        kept: dict[int, list[Tensor]] = {}  # the bands of the last step, by its index

        def passes(_step: Step) -> Sequence[Pass]:
            return everyone

        def combine(step: Step, _passes: Sequence[Pass], predictions: Sequence[Prediction]) -> Prediction:
            from composer.wavelets import analyse, band_weights, blend

            bands = analyse([one.cond for one in predictions], self.levels)
            weights = band_weights(bands, kept.get(step.index - 1), self.temperature, self.top)
            kept.clear()
            kept[step.index] = bands
            unconds = [one.uncond for one in predictions if one.uncond is not None]
            uncond = blend(analyse(unconds, self.levels), weights, unconds[0]) if unconds else None
            return Prediction(blend(bands, weights, predictions[0].cond), uncond)

        return Plan(passes, prompt_table(job), combine)
