"""KnOTS (arXiv:2410.19735) with TIES: the equation and its deviations are in merges/knots.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from composer.merging import MergingMethod
from composer.registry import method

if TYPE_CHECKING:
    from composer.merges.common import Weighted
    from lora_zoo.adapter import Adapter


@method("knots", title="KnOTS")
class Knots(MergingMethod):
    """Align the LoRAs by a common decomposition, then TIES."""

    density: float = Field(
        default=0.2, ge=0.0, le=1.0, description="Share of the entries of each LoRA's own part that stay."
    )
    elect: Literal["total", "frequency"] = Field(
        default="total", description="Signs by the sum of the entries, or by how many there are of each."
    )
    scale: float = Field(default=1.0, ge=0.0, le=4.0, description="Strength of the result.")

    def prepare(self, adapters: Sequence[Weighted]) -> Adapter:
        from composer.merges.knots import knots

        return knots(adapters, self.density, self.elect, self.scale)
