"""LoRA Composite (arXiv:2402.16843): one pass per adapter in every step, predictions averaged.

eps = 1/N sum_i [eps_i(null) + g * (eps_i(c) - eps_i(null))]; both branches use the adapter, and the mean is taken on
each branch before guidance, which is the same by linearity. Deviations from the authors' code: without guidance the
conditional predictions are averaged (theirs keeps the last adapter's only), and adapter weights are kept (theirs fall
back to 1.0).
Text encoder: `all` by default, as in the reference; `per_lora` gives each pass the prompt as its own adapter reads it.
"""

from __future__ import annotations

from collections.abc import Sequence

from composer.plan import Job, Pass, Plan, Step
from composer.prompts import prompt_name, prompt_table
from composer.registry import MethodModel, method


@method("composite", title="LoRA Composite")
class Composite(MethodModel):
    """Ask the model once per LoRA in every step and average the answers."""

    def start(self, job: Job) -> Plan:
        everyone = [Pass({use.name: use.weight}, prompt_name(job, use)) for use in job.adapters]

        def passes(_step: Step) -> Sequence[Pass]:
            return everyone

        return Plan(passes, prompt_table(job))
