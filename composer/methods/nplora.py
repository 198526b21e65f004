"""NP-LoRA (arXiv:2511.11051): the equation and its deviations are in merges/nplora.py. Defaults are the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from composer.merging import MergingMethod
from composer.registry import method

if TYPE_CHECKING:
    from composer.merges.common import Weighted
    from lora_zoo.adapter import Adapter


@method("nplora", title="NP-LoRA")
class NpLora(MergingMethod):
    """Keep the directions of one LoRA free of the others."""

    mu: float = Field(default=0.5, ge=0.0, le=1000.0, description="How strictly; 0 is the plain sum.")
    k: int = Field(default=8, ge=0, le=1024, description="How many directions are kept free; 0 is the plain sum.")
    protected: Literal["first", "last"] = Field(default="last", description="Which LoRA: usually that of the style.")

    def prepare(self, adapters: Sequence[Weighted]) -> Adapter:
        from composer.merges.nplora import nplora

        return nplora(adapters, self.mu, self.k, self.protected)
