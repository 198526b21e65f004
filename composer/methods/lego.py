"""LoRA-LEGO (arXiv:2409.16167): the definition and its deviations are in merges/lego.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from composer.merging import MergingMethod
from composer.registry import method

if TYPE_CHECKING:
    from composer.merges.common import Weighted
    from lora_zoo.adapter import Adapter


@method("lego", title="LoRA-LEGO")
class Lego(MergingMethod):
    """Cluster the rank-1 pieces of all LoRAs and use the centres."""

    rank: int = Field(
        default=0, ge=0, le=1024, description="Clusters in each layer; 0 takes the greatest rank among the LoRAs there."
    )
    reweight: bool = Field(default=True, description="Scale the result by sqrt(rank of the LoRAs / clusters).")

    def prepare(self, adapters: Sequence[Weighted]) -> Adapter:
        from composer.merges.lego import lego

        return lego(adapters, self.rank, self.reweight)
