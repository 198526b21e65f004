"""K-LoRA (arXiv:2502.18461): the equation and the deviations are in merges/klora.py.

scale(t) = alpha * t + beta with t from 0 to 1, as the paper writes it. The authors' code has a second pattern, its
default: beta = 0.85 * alpha, and the scale starts again from 0 where it reaches alpha; `wrap` with beta 1.275 does so.
Deviation that shows most: it acts on all layers of the UNet that a LoRA changes, theirs on q, k, v, out of attention.
Text encoder: `all` by default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from composer.plan import Job, Pass, Plan, Step
from composer.prompts import main_prompt
from composer.registry import MethodModel, method

if TYPE_CHECKING:
    from composer.merges.common import Weighted
    from composer.merges.klora import Ranking
    from lora_zoo.adapter import Adapter


@method("klora", title="K-LoRA")
class KLora(MethodModel):
    """Let each layer use the one LoRA that matters most to it, content early and style late."""

    alpha: float = Field(default=1.5, ge=0.1, le=10.0, description="By how much the style gains over the steps.")
    beta: float = Field(default=0.5, ge=0.0, le=10.0, description="What the style starts from; below 1, content leads.")
    wrap: bool = Field(default=False, description="Start again from 0 at alpha, as the authors' code does.")
    style: Literal["first", "last"] = Field(default="last", description="Which LoRA is the style.")

    def start(self, job: Job) -> Plan:
        weights = {use.name: use.weight for use in job.adapters}
        ranked = _Ranked(0 if self.style == "first" else len(job.adapters) - 1)

        def passes(step: Step) -> Sequence[Pass]:
            return [Pass(weights, merge=_Choice(self.style, self._scale(step), ranked))]

        return Plan(passes, main_prompt(job))

    def _scale(self, step: Step) -> float:
        scale = self.alpha * step.progress + self.beta
        return scale % self.alpha if self.wrap else scale


class _Ranked:
    """The layers of one request's LoRAs, ranked when a step asks for them at weights other than the last one's."""

    def __init__(self, style: int) -> None:
        self.style = style
        self._weights: tuple[float, ...] = ()
        self._ranking: Ranking = {}

    def of(self, adapters: Sequence[Weighted]) -> Ranking:
        from composer.merges.klora import rank_layers

        weights = tuple(one.weight for one in adapters)
        if weights != self._weights:
            self._weights, self._ranking = weights, rank_layers(adapters, self.style)
        return self._ranking


@dataclass(frozen=True)
class _Choice:
    """One step's merge: what acts in each layer at this scale. Choices of equal scales are equal."""

    style: str
    scale: float
    ranked: _Ranked = field(compare=False)

    def prepare(self, adapters: Sequence[Weighted]) -> Adapter:
        from composer.merges.common import Recipe
        from composer.merges.klora import choose

        layers = choose(self.ranked.of(adapters), self.ranked.style, self.scale)
        return Recipe("klora", {"style": self.style, "scale": self.scale}).adapter(adapters, {"unet": layers})
