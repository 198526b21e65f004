"""Methods that work in weight space: N adapters are made into one before they act, and the model is asked once a step.

Such a method is its own merge: its passes and its prompt name the adapters, their weights and, with `merge`, the
method itself. So what a pass uses is still data: nothing is computed until a pass runs, and passes with equal merges
of equal adapters share what was made.
Text encoder: `all` by default, merged in the same way with the weights for text.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from composer.plan import Job, Pass, Plan, Step
from composer.prompts import main_prompt
from composer.registry import MethodModel

if TYPE_CHECKING:
    from composer.merges.common import Weighted
    from lora_zoo.adapter import Adapter


class MergingMethod(MethodModel):
    """What every merge extends: `prepare` is all that it must say."""

    @abstractmethod
    def prepare(self, adapters: Sequence[Weighted]) -> Adapter:
        """Return one adapter made of several. Pure: equal methods make equal adapters of equal members."""

    def start(self, job: Job) -> Plan:
        everything = [Pass({use.name: use.weight for use in job.adapters}, merge=self)]

        def passes(_step: Step) -> Sequence[Pass]:
            return everything

        return Plan(passes, main_prompt(job, merge=self))
