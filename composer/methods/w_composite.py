"""W-Composite (arXiv:2606.03792): LoRA Composite with shares by how much each LoRA matters to the prompt.

eps = sum_i w_i * [eps_i(null) + g * (eps_i(c) - eps_i(null))], w as in composer/relevance.py; they add up to 1. With
equal relevance it is LoRA Composite. Deviation from the authors' code: adapter weights are kept.
Text encoder: `all` by default, as in the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from composer.plan import Job, Pass, Plan, Step
from composer.prompts import prompt_name, prompt_table
from composer.registry import MethodModel, method
from composer.relevance import Evidence, Pooling, compared, relevance


@method("w_composite", title="W-Composite")
class WComposite(MethodModel):
    """Average the answers of all LoRAs by how much each matters to the prompt."""

    needs_words: ClassVar[bool] = True

    evidence: Evidence = Field(
        default="triggers", description="How alike its words and the prompt are, or what its words add to the prompt."
    )
    pooling: Pooling = Field(default="all", description="Compare all tokens, padding too, or the words alone.")

    def texts(self, job: Job) -> tuple[str, ...]:
        return (job.prompt, *compared(job, self.evidence))

    def start(self, job: Job) -> Plan:
        weights = relevance(job, self.evidence, self.pooling)
        everyone = [
            Pass({use.name: use.weight}, prompt_name(job, use), share=weight)
            for use, weight in zip(job.adapters, weights, strict=True)
        ]

        def passes(_step: Step) -> Sequence[Pass]:
            return everyone

        return Plan(passes, prompt_table(job))
