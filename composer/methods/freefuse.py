"""FreeFuse (arXiv:2510.23515): masks found in attention, then each LoRA on its own tokens only.

The first `ahead` of the steps are run and forgotten, without LoRAs or with them (`by`; the authors have both). Their
last one's attention tells whose each place is (composer/found.py): S_c is the spatial spread of a concept's words,
n S_c - sum of the others' where it is most itself, and the `top` share of places its anchors. With `masks` =
`likeness` a place is of the concept whose anchors its features resemble; with `attention`, the authors' way where they
keep no features, of the one it reads most. Shares are even, and `gravity` keeps a concept's places together. Then the
picture begins anew from the same noise: h' = h + sum_s 1[p in R_s] delta_s x, and no LoRA on others' words; inside R_s
scores of its own words gain `bias`, those of others' lose it. Deviations from the authors' code: all layers at one
resolution, not one block chosen by eye, the conditional row, smoothed over 3x3 cells; scores are drawn to 0...1, so
their 2e-5 of gravity, for scores of 1e-3 and less, is a share here, and it draws to the anchors' centre: theirs, that
of all places won so far, is anywhere where background is won by chance; masks are not opened and closed. On the
embedded model likeness tells figures from places but not from each other, so that `attention` by `loras` is the
default. What no LoRA owns is read with the LoRA of its place. One LoRA is plain. Text encoder: `all`, as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from composer.masks import Box, Mask
from composer.plan import MAIN, Area, Capability, Job, Look, Pass, Plan, Step
from composer.prompts import main_prompt
from composer.registry import MethodModel, method

if TYPE_CHECKING:
    from torch import Tensor


@method("freefuse", title="FreeFuse")
class FreeFuse(MethodModel):
    """Find out where each LoRA's subject is, then let it act there alone."""

    needs: ClassVar[frozenset[Capability]] = frozenset({"cross-attention"})
    needs_words: ClassVar[bool] = True

    ahead: float = Field(default=1 / 3, ge=0.0, le=1.0, description="The part of the steps that masks are found in.")
    by: Literal["loras", "base"] = Field(default="loras", description="Whether LoRAs act while masks are found.")
    masks: Literal["attention", "likeness"] = Field(default="attention", description="What tells whose a place is.")
    top: float = Field(default=0.1, ge=0.0, le=1.0, description="The share of places that are anchors.")
    gravity: float = Field(default=1.0, ge=0.0, le=10.0, description="How a concept's places are kept together.")
    bias: float = Field(default=1.0, ge=0.0, le=20.0, description="How far a place leans to its own LoRA's words.")

    def start(self, job: Job) -> Plan:
        weights = {use.name: use.weight for use in job.adapters}
        prompts, masks = main_prompt(job), list[Mask](Box(0, 0, 1, 1) for _ in weights)  # until they are found
        if len(weights) == 1:
            return Plan(lambda _step: [Pass(weights)], prompts)
        shown = dict[str, "Tensor"]()

        def passes(_step: Step) -> Sequence[Pass]:
            both = zip(masks, weights, strict=True)
            areas = tuple(Area(mask, MAIN, (name,), leans=self._leans(job, name)) for mask, name in both)
            return [Pass(weights, areas=areas)]

        def before(step: Step, latents: Tensor, look: Look) -> Tensor:
            from composer.found import Search, drawn, owned

            if step.index == 0:
                told = look.ahead(latents, Pass(weights if self.by == "loras" else {}, places=True), self._count(step))
                how = Search(self.top, self.masks == "likeness", self.gravity)
                found = owned(told, [use.words for use in job.adapters], how)
                masks[:] = map(drawn, found)
                shown.update({f"mask of {name}": mask for name, mask in zip(weights, found, strict=True)})
            return latents

        def looks(step: Step) -> int:
            return self._count(step) if step.index == 0 else 0

        return Plan(passes, prompts, before_step=before, looks=looks, findings=lambda: shown)

    def _count(self, step: Step) -> int:
        return max(1, round(self.ahead * step.count))

    def _leans(self, job: Job, name: str) -> tuple[tuple[str, float], ...]:
        both = ((word, self.bias if use.name == name else -self.bias) for use in job.adapters for word in use.words)
        return tuple(both) if self.bias else ()
