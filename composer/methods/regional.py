"""Regional composition: each LoRA in the part of the picture where it belongs; without a region it acts everywhere.

How strictly is a parameter. `noise`: one pass per region with its LoRA and prompt, and one for what no region covers;
predictions are blended by sum_r m_r eps_r / sum_r m_r, as in MultiDiffusion (arXiv:2302.08113). `attention`: one pass
with all LoRAs; cross-attention inside a region reads the region's prompt, as in Mix-of-Show's regional sampling
(arXiv:2305.18292), where overlaps average. `tokens`: as `attention`, and a region's LoRA changes only the image tokens
inside and the words read there, h' = h + sum_r m_r delta_r x, as FreeFuse (arXiv:2510.23515) has it.
Deviations: edges are not rounded to cells; Mix-of-Show's weights are fused by gradients, here they are summed; FreeFuse
finds its masks and leaves convolutions alone, here masks are given and drawn at every layer's size, and layers without
places take a mask's mean. In `noise` a region's pass sees the whole picture, and its LoRA acts on all of it.
Text encoder: `per_lora` by default: a region's prompt is read by its LoRA and those that act everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from composer.masks import Rest
from composer.plan import Area, Capability, Job, JobAdapter, Pass, Plan, Step
from composer.prompts import region_name, region_table
from composer.registry import MethodModel, method
from composer.request import TextPolicy


@method("regional", title="Regional")
class Regional(MethodModel):
    """Let each LoRA act where it belongs."""

    text_policy: ClassVar[TextPolicy] = "per_lora"
    needs: ClassVar[frozenset[Capability]] = frozenset({"cross-attention"})
    uses_regions: ClassVar[bool] = True

    level: Literal["tokens", "attention", "noise"] = Field(
        default="tokens", description="What is kept apart: LoRAs and words, words only, or whole predictions."
    )

    def start(self, job: Job) -> Plan:
        wanted = _by_noise(job) if self.level == "noise" else [self._in_one(job)]

        def passes(_step: Step) -> Sequence[Pass]:
            return wanted

        return Plan(passes, region_table(job))

    def _in_one(self, job: Job) -> Pass:
        own = self.level == "tokens"
        areas = [
            Area(use.region.mask, region_name(use), (use.name,) if own else ())
            for use in job.adapters
            if use.region is not None
        ]
        return Pass({use.name: use.weight for use in job.adapters}, areas=tuple(areas))


def _by_noise(job: Job) -> list[Pass]:
    """Return a pass per region, and one for the rest if there is a rest."""
    masks = tuple(use.region.mask for use in job.adapters if use.region is not None)
    placed = [(use, use.region.mask) for use in job.adapters if use.region is not None]
    passes = [Pass(_weights(job, use), region_name(use), mask=mask) for use, mask in placed]
    if not masks or bool(Rest(masks).at(job.height, job.width).any()):
        passes.append(Pass(_weights(job, None), mask=Rest(masks) if masks else None))
    return passes


def _weights(job: Job, own: JobAdapter | None) -> dict[str, float]:
    return {use.name: use.weight for use in job.adapters if use.region is None or use is own}
