"""LoRA Switch (arXiv:2402.16843): one adapter at a time, the next one every `interval` steps, round and round.

active(i) = floor(i / interval) mod N for steps i = 0, 1, ..., as the paper writes it (from 1). The authors' code
changes over in a callback after the step, so their first adapter gets one step more: active(0) = 0 and
active(i) = floor((i - 1) / interval) mod N for i >= 1. `legacy_offset` repeats that. Deviation: adapter weights survive
every switch; theirs fall back to 1.0, and all are scaled by 0.8.
Text encoder: `first` by default, as in the reference, where the prompt is read once with the first adapter active.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from composer.plan import Job, Pass, Plan, Step
from composer.prompts import prompt_name, prompt_table
from composer.registry import MethodModel, method
from composer.request import TextPolicy
from composer.schedules import round_robin


@method("switch", title="LoRA Switch")
class Switch(MethodModel):
    """Use one LoRA at a time, taking turns over the steps."""

    text_policy: ClassVar[TextPolicy] = "first"

    interval: int = Field(default=5, ge=1, le=1000, description="Steps before the next LoRA takes over.")
    legacy_offset: bool = Field(default=False, description="Change over one step later, as the authors' code does.")

    def start(self, job: Job) -> Plan:
        turns = [[Pass({use.name: use.weight}, prompt_name(job, use))] for use in job.adapters]

        def passes(step: Step) -> Sequence[Pass]:
            return turns[round_robin(step.index, self.interval, len(turns), self.legacy_offset)]

        return Plan(passes, prompt_table(job))
