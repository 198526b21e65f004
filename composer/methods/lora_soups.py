"""LoRA Soups, CAT (arXiv:2410.13025), with weights per layer fitted without data: see merges/lora_soups.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from composer.merging import MergingMethod
from composer.registry import method

if TYPE_CHECKING:
    from composer.merges.common import Weighted
    from lora_zoo.adapter import Adapter


@method("lora_soups", title="LoRA Soups")
class LoraSoups(MergingMethod):
    """Weigh the LoRAs in each layer so that they disturb each other least."""

    strength: float = Field(
        default=1.0, ge=0.0, le=1.0, description="From the plain sum at 0 to the fitted weights at 1."
    )

    def prepare(self, adapters: Sequence[Weighted]) -> Adapter:
        from composer.merges.lora_soups import lora_soups

        return lora_soups(adapters, self.strength)
