"""Pruning by magnitude, then the sum: the definition and its deviations are in merges/magnitude.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from composer.merging import MergingMethod
from composer.registry import method

if TYPE_CHECKING:
    from composer.merges.common import Weighted
    from lora_zoo.adapter import Adapter


@method("magnitude", title="Magnitude pruning")
class Magnitude(MergingMethod):
    """Add the greatest entries of each LoRA."""

    density: float = Field(default=0.5, ge=0.0, le=1.0, description="Share of the entries of each LoRA that stay.")

    def prepare(self, adapters: Sequence[Weighted]) -> Adapter:
        from composer.merges.magnitude import magnitude

        return magnitude(adapters, self.density)
