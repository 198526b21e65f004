"""The sum of the LoRAs as one LoRA, exact: see merges/cat.py. Draws what LoRA Merge draws; worth having as a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from composer.merging import MergingMethod
from composer.registry import method

if TYPE_CHECKING:
    from composer.merges.common import Weighted
    from lora_zoo.adapter import Adapter


@method("cat", title="Concatenation")
class Cat(MergingMethod):
    """Put all LoRAs side by side in one: the exact sum."""

    def prepare(self, adapters: Sequence[Weighted]) -> Adapter:
        from composer.merges.cat import cat

        return cat(adapters)
