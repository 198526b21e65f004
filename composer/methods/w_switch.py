"""W-Switch (arXiv:2606.03792): LoRA Switch with longer turns for LoRAs that matter more to the prompt.

Turns last b_i = max(1, round(interval * w_i / max w)) steps, w as in composer/relevance.py, and follow each other round
and round; the last `tail` steps belong to one LoRA. With equal relevance and no tail it is LoRA Switch.
Deviations from the authors' code: step i uses schedule[i] (theirs is set after a step, so one step late); the tail is
the first LoRA's, and theirs the character's, which comes first in their lists; adapter weights are kept.
Text encoder: `first` by default, as in the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from composer.plan import Job, Pass, Plan, Step
from composer.prompts import prompt_name, prompt_table
from composer.registry import MethodModel, method
from composer.relevance import Evidence, Pooling, compared, relevance
from composer.request import TextPolicy
from composer.schedules import in_blocks


@method("w_switch", title="W-Switch")
class WSwitch(MethodModel):
    """Take turns, longer ones for the LoRAs that matter more to the prompt."""

    text_policy: ClassVar[TextPolicy] = "first"
    needs_words: ClassVar[bool] = True

    interval: int = Field(default=5, ge=1, le=1000, description="Steps in a turn of the LoRA that matters most.")
    tail: int = Field(default=5, ge=0, le=1000, description="Steps at the end that belong to the first LoRA.")
    evidence: Evidence = Field(
        default="ablation", description="What its words add to the prompt, or how alike its words and the prompt are."
    )
    pooling: Pooling = Field(default="all", description="Compare all tokens, padding too, or the words alone.")

    def texts(self, job: Job) -> tuple[str, ...]:
        return (job.prompt, *compared(job, self.evidence))

    def start(self, job: Job) -> Plan:
        weights = relevance(job, self.evidence, self.pooling)
        lengths = [max(1, round(self.interval * weight / max(weights))) for weight in weights]
        turns = [[Pass({use.name: use.weight}, prompt_name(job, use))] for use in job.adapters]

        def passes(step: Step) -> Sequence[Pass]:
            return turns[0 if step.index >= job.count - self.tail else in_blocks(step.index, lengths)]

        return Plan(passes, prompt_table(job))
