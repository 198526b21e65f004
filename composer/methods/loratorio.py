"""LoRAtorio (arXiv:2508.11624): a LoRA counts where it moves the prediction away from the base model's.

eps_c = sum_i Omega_i * eps_i(c) with Omega = softmin over i, in each patch, of cos(eps_i(c), eps_base(c)); guidance is
re-centred, eps_u = l * eps_base(null) + (1 - l) * sum_i Omega_i * eps_i(null). Of a larger pool, the `top` LoRAs that
move the prediction most take part in a step; all are asked, since only their answers tell.
No code is published, and the paper's texts at hand give l = 0.5 but neither the patch size nor the temperature: these
two are ours. Cosines differ little, so a temperature of 1 would be LoRA Composite but for the re-centring. Also ours:
cosines are of what the model predicts, noise or velocity; patches at the edges may be smaller; at l = 0 or 1 the rows
that would not count are not asked for.
Text encoder: `all` by default; in all passes alike, or with `per_lora`, in the base's pass none.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from composer.plan import Job, Pass, Plan, Prediction, Step
from composer.prompts import base_name, base_table, prompt_name
from composer.registry import MethodModel, method


@method("loratorio", title="LoRAtorio")
class Loratorio(MethodModel):
    """Weigh the LoRAs in each patch by how much they change what the base model says there."""

    patch: int = Field(default=4, ge=1, le=128, description="Side of a patch, in latent pixels.")
    temperature: float = Field(
        default=0.02, ge=0.0001, le=1000.0, description="Low: the LoRA that changes most wins; high: all count alike."
    )
    recentring: float = Field(default=0.5, ge=0.0, le=1.0, description="The base model's part in what guidance leaves.")
    top: int = Field(default=0, ge=0, le=1000, description="How many LoRAs take part in a step; 0: all.")

    def start(self, job: Job) -> Plan:
        base = Pass({}, base_name(job), uncond="same" if self.recentring > 0.0 else "off")
        own = "same" if self.recentring < 1.0 else "off"
        everyone = [base, *(Pass({use.name: use.weight}, prompt_name(job, use), uncond=own) for use in job.adapters)]

        def passes(_step: Step) -> Sequence[Pass]:
            return everyone

        def combine(_step: Step, _passes: Sequence[Pass], predictions: Sequence[Prediction]) -> Prediction:
            return self._combine(predictions[0], predictions[1:])

        return Plan(passes, base_table(job), combine)

    def _combine(self, base: Prediction, loras: Sequence[Prediction]) -> Prediction:
        from composer.patches import blend, likeness, softmin

        alike = [likeness(one.cond, base.cond, self.patch) for one in loras]
        omega = softmin(alike, self.temperature, self.top)
        cond = blend(omega, [one.cond for one in loras], self.patch)
        unconds = [one.uncond for one in loras if one.uncond is not None]
        uncond = base.uncond
        if unconds:
            mixed = blend(omega, unconds, self.patch)
            uncond = mixed if uncond is None else self.recentring * uncond + (1.0 - self.recentring) * mixed
        return Prediction(cond, uncond)
