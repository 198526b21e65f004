"""CMLoRA (arXiv:2502.04923): Composite with a dominant LoRA that takes turns, and kept deep features for the others.

Turns begin at refresh steps (schedules.py). The dominant weighs c = N - 0.5 times another, shares normalised to 1. In
the first step all are computed whole, then the dominant at its turn's first; all else reuses what it kept. At
`interval` 1 nothing is reused, as in the authors' code, nor with one LoRA. LoRAs go from high to low frequency, as
measured by `zoo profile` (composer/spectrum.py). The last `low` are backgrounds: early turns go round the others, late
ones round all but the first. Deviations: the order is measured, how many are low and when late begins are parameters
(the authors take all this from file names, and step 120 of 220); whether a turn is early or late is judged at its start
(theirs in every step, so that a turn can change hands); of several low ones all take late turns (theirs the first); no
uneven turns around a center; turns refresh in both phases and on the paper's schedule too, where their code refreshes
nothing. `decay`, c less 1/2, 1/4, ... from turn to turn and never below 1, is what their code means to do; it changes
nothing there, and is off. Text encoder: `all` by default, as in `composite`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from composer.plan import Capability, Job, Pass, Plan, Reuse, Step
from composer.prompts import prompt_name, prompt_table
from composer.registry import MethodModel, method
from composer.schedules import by_frequency, need_frequencies, refresh_steps


@method("cmlora", title="CMLoRA")
class CmLora(MethodModel):
    """Average as Composite does, one LoRA ahead at a time, the others from features kept."""

    needs: ClassVar[frozenset[Capability]] = frozenset({"deep features"})

    interval: int = Field(default=0, ge=0, le=1000, description="Steps of a turn; 0 is the paper's schedule, 2 and 3.")
    lead: float = Field(default=1.0, ge=0.0, le=4.0, description="How far the dominant LoRA is ahead; 0 is not at all.")
    decay: bool = Field(default=False, description="Let the lead shrink from turn to turn.")
    order: Literal["measured", "named"] = Field(default="measured", description="By frequency, or as they are named.")
    low: int = Field(default=0, ge=0, le=16, description="How many LoRAs, the last, are of low frequency.")
    late: float = Field(default=6 / 11, ge=0.0, le=1.0, description="The part of the steps after which those join in.")
    reuse: Literal["block", "layer", "off"] = Field(
        default="block", description="What is kept: the last block's input as the authors, its last layer's, nothing."
    )

    def check(self, job: Job) -> None:
        if self.order == "measured" and len(job.adapters) > 1:
            need_frequencies(job)

    def start(self, job: Job) -> Plan:
        if self.order == "measured":
            job = by_frequency(job)
        refreshes, count = refresh_steps(job.count, self.interval), len(job.adapters)
        reuses = self.reuse != "off" and self.interval != 1 and count > 1
        layers = 1 if self.reuse == "layer" else 0

        def passes(step: Step) -> Sequence[Pass]:
            turn = bisect_right(refreshes, step.index) - 1
            dominant = self._dominant(turn, refreshes[turn] / step.count, count)
            begins = refreshes[turn] == step.index
            return [
                Pass(
                    {use.name: use.weight},
                    prompt_name(job, use),
                    share=self._lead(turn, count) if place == dominant else 1.0,
                    reuse=Reuse(use.name, not step.index or (begins and place == dominant), layers) if reuses else None,
                )
                for place, use in enumerate(job.adapters)
            ]

        return Plan(passes, prompt_table(job))

    def _dominant(self, turn: int, progress: float, count: int) -> int:
        high = max(count - self.low, 0)
        if high in (0, count):
            return turn % count
        return turn % high if progress < self.late else turn % (count - 1) + 1

    def _lead(self, turn: int, count: int) -> float:
        lead = 1.0 + self.lead * (count - 1.5)
        return max(lead - (1.0 - 0.5**turn if self.decay else 0.0), 1.0)
