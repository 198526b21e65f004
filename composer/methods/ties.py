"""TIES (arXiv:2306.01708): the equation and its deviations are in merges/ties.py. The density is the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from composer.merging import MergingMethod
from composer.registry import method

if TYPE_CHECKING:
    from composer.merges.common import Weighted
    from lora_zoo.adapter import Adapter


@method("ties", title="TIES")
class Ties(MergingMethod):
    """Trim the LoRAs, let them vote on signs, average those that agree."""

    density: float = Field(default=0.2, ge=0.0, le=1.0, description="Share of the entries of each LoRA that stay.")
    elect: Literal["total", "frequency"] = Field(
        default="total", description="Signs by the sum of the entries, or by how many there are of each."
    )
    scale: float = Field(default=1.0, ge=0.0, le=4.0, description="Strength of the result.")

    def prepare(self, adapters: Sequence[Weighted]) -> Adapter:
        from composer.merges.ties import ties

        return ties(adapters, self.density, self.elect, self.scale)
