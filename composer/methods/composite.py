"""LoRA Composite (arXiv:2402.16843): one pass per adapter in every step, predictions averaged.

eps = 1/N sum_i [eps_i(null) + g * (eps_i(c) - eps_i(null))]; both branches use the adapter, and the mean is taken on
each branch before guidance, which is the same by linearity. Deviations from the authors' code: without guidance the
conditional predictions are averaged (theirs keeps the last adapter's only), and adapter weights are kept (theirs fall
back to 1.0, and all are scaled by 0.8).
One unconditional row for all, N + 1 instead of 2N, is ours and another method than the paper's, since adapters change
that branch too. `mean` is the prediction with all adapters at 1/N of their weights: to first order in the weights the
paper's mean, and exact for one adapter. `base` is the base model's: guidance then also pushes away from the base.
Text encoder: `all` by default, as in the reference; `per_lora` gives each pass the prompt as its own adapter reads it,
and a shared unconditional row the negative prompt as the first one reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from composer.plan import Job, Pass, Plan, Step
from composer.prompts import prompt_name, prompt_table
from composer.registry import MethodModel, method


@method("composite", title="LoRA Composite")
class Composite(MethodModel):
    """Ask the model once per LoRA in every step and average the answers."""

    unconditional: Literal["each", "mean", "base"] = Field(
        default="each", description="Every LoRA's own, as in the paper, or one: with all LoRAs averaged, or with none."
    )

    def start(self, job: Job) -> Plan:
        everyone = [
            Pass({use.name: use.weight}, prompt_name(job, use), uncond=self._uncond(job, place))
            for place, use in enumerate(job.adapters)
        ]

        def passes(_step: Step) -> Sequence[Pass]:
            return everyone

        return Plan(passes, prompt_table(job))

    def _uncond(self, job: Job, place: int) -> Mapping[str, float] | Literal["same", "off"]:
        """Return the adapters of the unconditional row of a pass; a shared row goes with the first one."""
        if self.unconditional == "each":
            return "same"
        if place > 0:
            return "off"
        return {use.name: use.weight / len(job.adapters) for use in job.adapters if self.unconditional == "mean"}
