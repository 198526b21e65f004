"""DARE followed by the election of TIES (arXiv:2311.03099, 2306.01708): see merges/dare.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from composer.merging import MergingMethod
from composer.registry import method

if TYPE_CHECKING:
    from composer.merges.common import Weighted
    from lora_zoo.adapter import Adapter


@method("dare_ties", title="DARE with TIES")
class DareTies(MergingMethod):
    """Drop entries at random, then average those whose sign wins."""

    density: float = Field(default=0.5, ge=0.0, le=1.0, description="Share of the entries of each LoRA that stay.")
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Which entries are dropped.")
    elect: Literal["total", "frequency"] = Field(
        default="total", description="Signs by the sum of the entries, or by how many there are of each."
    )
    scale: float = Field(default=1.0, ge=0.0, le=4.0, description="Strength of the result.")

    def prepare(self, adapters: Sequence[Weighted]) -> Adapter:
        from composer.merges.dare import dare_ties

        return dare_ties(adapters, self.density, self.seed, self.elect, self.scale)
