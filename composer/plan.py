"""Passes as data: a method says which evaluations of the UNet it wants at each step, and the engine performs them.

Nothing here holds or knows a model. Because `Plan.passes` is a question and not an act, the same plan can be run,
priced (`--dry-run`) or batched with the plans of other requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from composer.request import TextPolicy

if TYPE_CHECKING:
    from torch import Tensor

    from composer.merges.common import Weighted
    from composer.texts import TextEmbedding
    from lora_zoo.adapter import Adapter

#: Adapter name -> weight. Ordered: sums over adapters are always taken in this order.
AdapterWeights = Mapping[str, float]

MAIN = "main"


@dataclass(frozen=True)
class Step:
    """Where in the denoising loop we are. A pure input: methods never count calls."""

    index: int
    count: int
    timestep: float
    sigma: float

    @property
    def progress(self) -> float:
        return self.index / self.count


class Merge(Protocol):
    """Makes one adapter of several. A hashable value: with its members and weights it is the key of what it makes."""

    def prepare(self, adapters: Sequence[Weighted]) -> Adapter: ...


@dataclass(frozen=True)
class Pass:
    """One evaluation of the UNet for one image: a conditional row and, with guidance, an unconditional one."""

    adapters: AdapterWeights
    prompt: str = MAIN  # a key of Plan.prompts
    share: float = 1.0  # its part in the blend of predictions
    merge: Merge | None = None  # the pass uses what this makes of its adapters; None: their sum
    uncond: AdapterWeights | Literal["same", "off"] = "same"  # the sum in its unconditional row; off: it has none


@dataclass(frozen=True, eq=False)
class Prediction:
    """What one pass returned. `uncond` is None when guidance is off, or the pass has no unconditional row."""

    cond: Tensor  # [1, channels, h, w]
    uncond: Tensor | None = None  # [1, channels, h, w]


@dataclass(frozen=True)
class Prompt:
    """A text to encode, with the LoRAs active in the text encoder while it is read."""

    text: str
    negative: str = ""
    adapters: AdapterWeights = field(default_factory=dict[str, float])
    merge: Merge | None = None  # as in a pass
    weighted: bool = False  # the texts have A1111's emphasis and may be longer than the encoder reads at once


@dataclass(frozen=True)
class JobAdapter:
    """One LoRA of a request, its weights decided."""

    name: str
    weight: float
    text_encoder_weight: float
    words: tuple[str, ...] = ()  # of the prompt, that belong to it


@dataclass(frozen=True)
class Job:
    """All that a method may see of a request. It holds no model."""

    adapters: tuple[JobAdapter, ...]
    prompt: str
    negative_prompt: str
    text_policy: TextPolicy
    count: int  # steps
    height: int  # of the latents
    width: int
    texts: Mapping[str, TextEmbedding] = field(default_factory=dict[str, "TextEmbedding"])  # empty in a dry run


Combine = Callable[[Step, Sequence[Pass], Sequence[Prediction]], Prediction]


def weighted_mean(_step: Step, passes: Sequence[Pass], predictions: Sequence[Prediction]) -> Prediction:
    """Blend predictions by share, each guidance branch on its own (guidance is linear, so the order is free).

    The unconditional blend is of the passes that have such a row.
    """
    if len(predictions) == 1:
        return predictions[0]
    both = list(zip(passes, predictions, strict=True))
    unconds = [(one.share, found.uncond) for one, found in both if found.uncond is not None]
    return Prediction(_blend([(one.share, found.cond) for one, found in both]), _blend(unconds) if unconds else None)


def _blend(weighted: Sequence[tuple[float, Tensor]]) -> Tensor:
    total = sum(share for share, _ in weighted)
    mixed = weighted[0][1] * (weighted[0][0] / total)
    for share, tensor in weighted[1:]:
        mixed = mixed + tensor * (share / total)
    return mixed


@dataclass(frozen=True)
class Plan:
    """A request's answer to "what next?": a record of functions. Per-request state lives in their closures."""

    passes: Callable[[Step], Sequence[Pass]]
    prompts: Mapping[str, Prompt]
    combine: Combine = weighted_mean
