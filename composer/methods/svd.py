"""The sum of the LoRAs, cut to a rank: the equation is in merges/svd.py. The default rank is PEFT's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from composer.merging import MergingMethod
from composer.registry import method

if TYPE_CHECKING:
    from composer.merges.common import Weighted
    from lora_zoo.adapter import Adapter


@method("svd", title="SVD merge")
class Svd(MergingMethod):
    """Add all LoRAs and keep the strongest directions of the sum."""

    rank: int = Field(
        default=0, ge=0, le=1024, description="Rank in each layer; 0 takes the greatest among the LoRAs there."
    )

    def prepare(self, adapters: Sequence[Weighted]) -> Adapter:
        from composer.merges.svd import svd

        return svd(adapters, self.rank)
