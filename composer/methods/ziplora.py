"""ZipLoRA (arXiv:2311.13600) without its training: see merges/ziplora.py. The trained form is a merge of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from composer.merging import MergingMethod
from composer.registry import method

if TYPE_CHECKING:
    from composer.merges.common import Weighted
    from lora_zoo.adapter import Adapter


@method("ziplora", title="ZipLoRA")
class ZipLora(MergingMethod):
    """Scale each LoRA's input columns so that the LoRAs disturb each other least."""

    overlap: float = Field(
        default=0.01, ge=0.0, le=100.0, description="How strictly columns are shared out instead of used twice."
    )

    def prepare(self, adapters: Sequence[Weighted]) -> Adapter:
        from composer.merges.ziplora import ziplora

        return ziplora(adapters, self.overlap)
