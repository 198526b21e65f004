"""OPCM (arXiv:2501.09522): the equations and their deviations are in merges/opcm.py. The order of the LoRAs matters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from composer.merging import MergingMethod
from composer.registry import method

if TYPE_CHECKING:
    from composer.merges.common import Weighted
    from lora_zoo.adapter import Adapter


@method("opcm", title="OPCM")
class Opcm(MergingMethod):
    """Add the LoRAs in turn, each off the directions already in use."""

    alpha: float = Field(
        default=0.5, ge=0.0, le=1.0, description="Share of what is there that counts as the directions in use."
    )

    def prepare(self, adapters: Sequence[Weighted]) -> Adapter:
        from composer.merges.opcm import opcm

        return opcm(adapters, self.alpha)
