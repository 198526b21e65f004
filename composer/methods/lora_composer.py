"""LoRA-Composer (arXiv:2403.11627): each LoRA in its box, boxes kept apart, latents drawn to show it there.

Injection: inside its box a LoRA acts on the image, and words are read from the box's own prompt; overlaps share.
Isolation: self-attention joins nothing in one box with anything in another. Before the first step each box takes the
latents from where its concept is read most (`reinit`). In the first `until` of the steps, z - `update` *
sqrt(1 ... 1/2) * gradient of the losses in composer/boxes.py, until their sum rises after a tenth of the steps.
A concept is its LoRA's words, or all that its box's prompt says if they are not in it.
Deviations from the authors' code: theirs needs EDLoRA and puts its keys, values and outputs of cross-attention alone
into a box; here all layers of any LoRA act inside, so that one box over everything is the plain LoRA. Masks need not be
boxes, a cell half inside is inside, and text encoders' parts are read; tokens are found by words, not by their number.
Text encoder: `per_lora` by default, as in `regional`.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from composer.plan import Area, Capability, Job, Look, Pass, Plan, Step
from composer.prompts import region_name, region_table
from composer.registry import MethodModel, method
from composer.request import TextPolicy
from composer.words import found

if TYPE_CHECKING:
    from torch import Tensor


@method("lora_composer", title="LoRA-Composer")
class LoraComposer(MethodModel):
    """Put each LoRA into its box, keep the boxes apart, and draw the picture's beginnings there."""

    text_policy: ClassVar[TextPolicy] = "per_lora"
    needs: ClassVar[frozenset[Capability]] = frozenset({"cross-attention"})
    uses_regions: ClassVar[bool] = True

    reinit: bool = Field(default=True, description="Begin each box with the noise that suits its concept best.")
    alone: bool = Field(default=True, description="Keep boxes apart in self-attention.")
    update: float = Field(default=20.0, ge=0.0, le=1000.0, description="Step size of the latents; 0 leaves them.")
    until: float = Field(default=0.5, ge=0.0, le=1.0, description="The part of the steps that may begin with it.")
    enhance: float = Field(default=8.0, ge=0.0, le=100.0, description="Weight of being read amid the box.")
    fill: float = Field(default=2.0, ge=0.0, le=100.0, description="Weight of being read all over the box.")
    isolate: float = Field(default=10.0, ge=0.0, le=100.0, description="Weight of not looking out of the box.")

    def start(self, job: Job) -> Plan:
        placed = [(use, use.region) for use in job.adapters if use.region is not None]
        areas = tuple(Area(at.mask, region_name(use), (use.name,), self.alone) for use, at in placed)
        wanted = [Pass({use.name: use.weight for use in job.adapters}, areas=areas, places=True)]
        words = [found(at.prompt, use.words) or ("",) for use, at in placed]
        losses: list[float] = []

        def before(step: Step, latents: Tensor, look: Look) -> Tensor:
            from composer.boxes import Boxes, Pulls

            boxes = Boxes(words, [area.mask for area in areas], Pulls(self.enhance, self.fill, self.isolate))
            if step.index == 0 and self.reinit:
                latents = boxes.begun(latents, look.attention(latents, wanted)[0])
            rises = len(losses) > max(1.0, 0.1 * step.count) and losses[-1] > losses[-2]
            if not self._updates(step) or rises:
                return latents
            value, slope = look.slope(latents, wanted, lambda told: boxes.loss(told[0]))
            losses.append(value)
            return latents - self.update * sqrt(1.0 - 0.5 * step.index / max(step.count - 1, 1)) * slope

        def looks(step: Step) -> int:
            return int(step.index == 0 and self.reinit) + self._updates(step)

        if not areas:
            return Plan(lambda _step: wanted, region_table(job))
        return Plan(lambda _step: wanted, region_table(job), before_step=before, looks=looks)

    def _updates(self, step: Step) -> int:
        return int(self.update > 0.0 and step.index <= self.until * step.count)
