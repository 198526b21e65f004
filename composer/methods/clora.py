"""CLoRA (arXiv:2403.19776): attention parts the concepts, then each LoRA's answer counts where its concept is.

N + 1 prompts: the base's, and one for each LoRA with its trigger. Before a step the latents take z - `update` *
gradient of NT-Xent over the cross-attention of the concepts' words in all prompts (composer/contrast.py): in the first
`until` of the steps, and `refine` times more at step 0 and each fifth of all (the authors' 0, 10, 20 of 50). Then
eps = sum_k M_k eps_k / sum_k M_k in both guidance branches, M_0 where no other is. M_k is, with `masks` = `any`, where
a word of LoRA k is read above `threshold` of its most; `parted` is ours: by its words' mean, smoothed, a cell wider,
one concept a place (composer/found.py). A LoRA's first word is its trigger, said in its own prompt only if its others
say enough. Others: maps are of the conditional row, predictions and masks of the moved latents; one LoRA is plain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from composer.plan import Capability, Job, Look, Pass, Plan, Prediction, Step, weighted_mean
from composer.prompts import BASE, prompt_by, prompt_name, prompt_table
from composer.registry import MethodModel, method
from composer.request import TextPolicy
from composer.schedules import updates
from composer.words import separated

if TYPE_CHECKING:
    from torch import Tensor


@method("clora", title="CLoRA")
class CLora(MethodModel):
    """Part the concepts by their attention, and let each LoRA answer where its own is."""

    text_policy: ClassVar[TextPolicy] = "per_lora"  # as in the authors' notebook
    needs: ClassVar[frozenset[Capability]] = frozenset({"cross-attention"})
    needs_words: ClassVar[bool] = True

    prompts: Literal["own", "whole"] = Field(default="own", description="One per LoRA without the others' triggers.")
    update: float = Field(default=20.0, ge=0.0, le=1000.0, description="Step size of the latents; 0 leaves them.")
    until: float = Field(default=0.5, ge=0.0, le=1.0, description="The part of the steps that begin with it.")
    refine: int = Field(default=20, ge=0, le=200, description="Further updates at the beginning and at each fifth.")
    temperature: float = Field(default=0.5, ge=0.01, le=10.0, description="Of the contrast between maps.")
    threshold: float = Field(default=0.3, ge=0.0, le=0.99, description="Share of a map's most that is its concept.")
    masks: Literal["parted", "any"] = Field(default="parted", description="One concept a place, or the authors' way.")

    def start(self, job: Job) -> Plan:
        if len(job.adapters) == 1:
            alone = [Pass({one.name: one.weight}, prompt_name(job, one)) for one in job.adapters]
            return Plan(lambda _step: alone, prompt_table(job))
        owners = [use.words for use in job.adapters]
        texts = separated(job.prompt, owners) if self.prompts == "own" else [job.prompt] * (1 + len(owners))
        readers = {BASE: (), **{use.name: (use,) for use in job.adapters}}
        prompts = {key: prompt_by(job, who, text) for (key, who), text in zip(readers.items(), texts, strict=True)}
        loras = [Pass({use.name: use.weight}, use.name, capture=True) for use in job.adapters]
        wanted, saw = [Pass({}, BASE), *loras], dict[str, "Tensor"]()

        def before(step: Step, latents: Tensor, look: Look) -> Tensor:
            from composer.contrast import Concepts, contrastive

            groups = Concepts(texts, owners).groups
            for _ in range(self._updates(step)):
                _, slope = look.slope(latents, wanted, lambda told: contrastive(groups(told), self.temperature))
                latents = latents - self.update * slope
            return latents

        def combine(step: Step, passes: Sequence[Pass], predictions: Sequence[Prediction]) -> Prediction:
            from composer.contrast import Concepts
            from composer.found import claims, drawn, shown, with_rest

            maps = Concepts(texts, owners).own([one.attention for one in predictions if one.attention is not None])
            masks = with_rest(claims(maps, self.threshold, self.masks == "parted"), job.height, job.width)
            saw.update(shown([use.name for use in job.adapters], masks[1:].unbind(), maps))
            masked = [replace(one, mask=drawn(mask)) for one, mask in zip(passes, masks, strict=True)]
            return weighted_mean(step, masked, predictions)

        return Plan(lambda _: wanted, prompts, combine, before, lambda s: len(wanted) * self._updates(s), lambda: saw)

    def _updates(self, step: Step) -> int:
        return updates(step, self.until, self.refine) if self.update else 0
