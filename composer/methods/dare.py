"""DARE (arXiv:2311.03099): the equation and its deviations are in merges/dare.py.

The paper drops up to 90 % of full fine-tunings; LoRAs are denser in what they say, so half is kept by default.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from composer.merging import MergingMethod
from composer.registry import method

if TYPE_CHECKING:
    from composer.merges.common import Weighted
    from lora_zoo.adapter import Adapter


@method("dare", title="DARE")
class Dare(MergingMethod):
    """Drop entries of each LoRA at random, rescale the rest, add."""

    density: float = Field(default=0.5, ge=0.0, le=1.0, description="Share of the entries of each LoRA that stay.")
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Which entries are dropped.")
    rescale: bool = Field(default=True, description="Divide by the density, so that the sum stays the same on average.")

    def prepare(self, adapters: Sequence[Weighted]) -> Adapter:
        from composer.merges.dare import dare

        return dare(adapters, self.density, self.seed, self.rescale)
