"""LoRA Merge: all adapters active together in every step, W' = W + sum_i w_i * delta_i.

The baseline of arXiv:2402.16843, where it is a sum and not an average: with many adapters the total delta grows, and
saturated pictures are its known failure. `combine: mean` divides every weight by the number of adapters.
Deviation: the authors multiply all weights by a call-time scale of 0.8; here a weight is the user's own.
Text encoder: `all` by default, as in the reference; `mean` divides those weights too. Without adapters: the base model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from composer.plan import Job, Pass, Plan, Step
from composer.prompts import main_prompt
from composer.registry import MethodModel, method


@method("merge", title="LoRA Merge")
class Merge(MethodModel):
    """Add all LoRAs to the model at once."""

    min_adapters: ClassVar[int] = 0

    combine: Literal["sum", "mean"] = Field(default="sum", description="Add the weighted LoRAs, or average them.")

    def start(self, job: Job) -> Plan:
        factor = 1.0 / len(job.adapters) if self.combine == "mean" and job.adapters else 1.0
        everything = [Pass({use.name: use.weight * factor for use in job.adapters})]

        def passes(_step: Step) -> Sequence[Pass]:
            return everything

        return Plan(passes, main_prompt(job, factor))
