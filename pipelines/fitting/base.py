"""What all fits share: the members with their prompts, and what a fit returns."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from composer.request import Frozen
from pipelines.progress import Watch

if TYPE_CHECKING:
    from lora_zoo.adapter import Adapter, LowRank
    from pipelines.fitting.studio import Studio


@dataclass(frozen=True, eq=False)
class Member:
    """One LoRA of a fit, with the prompt that calls for it."""

    adapter: Adapter  # at the strength asked for
    prompt: str


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a fit has made of its members, and what it has measured on the way."""

    layers: Mapping[str, Mapping[str, LowRank]]  # component -> module path -> delta
    measured: Mapping[str, float]


class Fit(Frozen):
    """A merge that must see the model at work: its fields are its parameters, with ranges and help."""

    @abstractmethod
    def fit(self, studio: Studio, members: Sequence[Member], watch: Watch) -> Fitted:
        """Return one LoRA made of several. The same members, parameters and model give the same."""


def strengthened(adapter: Adapter, weight: float, text_weight: float) -> Adapter:
    """Return an adapter with its weights folded in, that of the text encoder apart; where one is 0, nothing is left."""
    from composer.merges.common import scaled
    from lora_zoo.adapter import Adapter

    weights = {component: weight if component == "unet" else text_weight for component in adapter.layers}
    layers = {
        component: {path: scaled(delta, weights[component]) for path, delta in paths.items()}
        for component, paths in adapter.layers.items()
        if weights[component]
    }
    return Adapter(adapter.name, derived(adapter.digest, weight, text_weight), layers, adapter.metadata)


def derived(*facts: object) -> str:
    """Return a digest for what follows from these facts."""
    return hashlib.sha256(repr(facts).encode()).hexdigest()
