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

    from composer.masks import Mask
    from composer.merges.common import Weighted
    from lora_zoo.adapter import Adapter

#: Adapter name -> weight. Ordered: sums over adapters are always taken in this order.
AdapterWeights = Mapping[str, float]

MAIN = "main"

#: What a pass may use of a UNet beyond its prediction.
Capability = Literal["cross-attention", "deep features"]


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
class Area:
    """A part of the picture in one pass: what is read there, and which of the pass's adapters act nowhere else.

    Cross-attention inside reads `prompt` in place of the pass's own; areas that overlap share. An adapter that an area
    names acts on the image tokens inside and on the words that are read there; an adapter that none names, everywhere.
    """

    mask: Mask
    prompt: str = MAIN  # a key of Plan.prompts
    adapters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reuse:
    """What a pass does with the UNet's deep features, in a slot of its own plan.

    A pass that refreshes computes everything and keeps them; one that does not takes them as they were kept, and
    computes the last `layers` layers of the UNet's last block and what leads to them. 0: the whole block.
    """

    slot: str
    refresh: bool
    layers: int = 0


@dataclass(frozen=True)
class Pass:
    """One evaluation of the UNet for one image, both guidance branches."""

    adapters: AdapterWeights
    prompt: str = MAIN  # a key of Plan.prompts
    share: float = 1.0  # its part in the blend of predictions
    merge: Merge | None = None  # the pass uses what this makes of its adapters; None: their sum
    mask: Mask | None = None  # where it takes part in the blend of predictions; None: everywhere
    areas: tuple[Area, ...] = ()
    reuse: Reuse | None = None
    capture: bool = False  # return cross-attention with the prediction; a pass with areas or kept features cannot

    @property
    def shallow(self) -> bool:
        """Whether it takes kept features in place of computing them."""
        return self.reuse is not None and not self.reuse.refresh


@dataclass(frozen=True, eq=False)
class Attention:
    """How much each place of a picture reads each token of a prompt: the conditional row's cross-attention.

    Probabilities, the mean over heads and over all layers at the resolution of the deepest down block that has
    cross-attention: 16x16 in SD1.5 for 64x64 latents, and in SDXL a quarter of the latents' size too.
    """

    maps: Tensor  # [tokens, h, w]
    places: Callable[[str], tuple[int, ...]]

    def of(self, words: str) -> Tensor:
        """Return the maps of the tokens of these words, wherever the prompt holds them, [n, h, w]."""
        return self.maps[list(self.places(words))]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What one pass returned. `uncond` is None when guidance is off."""

    cond: Tensor  # [1, channels, h, w]
    uncond: Tensor | None = None  # [1, channels, h, w]
    attention: Attention | None = None  # of passes that capture it


@dataclass(frozen=True)
class Prompt:
    """A text to encode, with the LoRAs active in the text encoder while it is read."""

    text: str
    negative: str = ""
    adapters: AdapterWeights = field(default_factory=dict[str, float])
    merge: Merge | None = None  # as in a pass


@dataclass(frozen=True)
class JobRegion:
    """Where a LoRA belongs, and what is there."""

    mask: Mask
    prompt: str


@dataclass(frozen=True)
class JobAdapter:
    """One LoRA of a request, its weights decided."""

    name: str
    weight: float
    text_encoder_weight: float
    region: JobRegion | None = None  # None: everywhere


@dataclass(frozen=True)
class Job:
    """All that a method may see of a request. It holds no model and no tensors."""

    adapters: tuple[JobAdapter, ...]
    prompt: str
    negative_prompt: str
    text_policy: TextPolicy
    count: int  # steps
    height: int  # of the latents
    width: int


Combine = Callable[[Step, Sequence[Pass], Sequence[Prediction]], Prediction]


def weighted_mean(_step: Step, passes: Sequence[Pass], predictions: Sequence[Prediction]) -> Prediction:
    """Blend predictions by share, each guidance branch on its own (guidance is linear, so the order is free)."""
    if len(predictions) == 1:
        return predictions[0]
    if any(one.mask is not None for one in passes):
        return _masked_mean(passes, predictions)
    total = sum(one.share for one in passes)
    shares = [one.share / total for one in passes]
    unconds = [p.uncond for p in predictions if p.uncond is not None]
    cond = _blend(shares, [p.cond for p in predictions])
    return Prediction(cond, _blend(shares, unconds) if unconds else None)


def _blend(shares: Sequence[float], tensors: Sequence[Tensor]) -> Tensor:
    mixed = tensors[0] * shares[0]
    for share, tensor in zip(shares[1:], tensors[1:], strict=True):
        mixed = mixed + tensor * share
    return mixed


def _masked_mean(passes: Sequence[Pass], predictions: Sequence[Prediction]) -> Prediction:
    """Blend at each place the passes that take part there. The plan sees to it that there is one everywhere."""
    weights = [_weight(one, found.cond) for one, found in zip(passes, predictions, strict=True)]
    unconds = [(weight, p.uncond) for weight, p in zip(weights, predictions, strict=True) if p.uncond is not None]
    cond = _blend_places([(weight, p.cond) for weight, p in zip(weights, predictions, strict=True)])
    return Prediction(cond, _blend_places(unconds) if unconds else None)


def _weight(one: Pass, like: Tensor) -> Tensor:
    """Return a pass's part in the blend at each place, [h, w]."""
    height, width = like.shape[-2:]
    if one.mask is None:
        return like.new_full((height, width), one.share)
    return one.share * one.mask.at(height, width).to(like)


def _blend_places(weighted: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    weights, mixed = weighted[0][0], weighted[0][0] * weighted[0][1]
    for weight, tensor in weighted[1:]:
        weights, mixed = weights + weight, mixed + weight * tensor
    return mixed / weights


class Look(Protocol):
    """What a plan may do before a step: see how passes would attend to latents, and which way that would change."""

    def attention(self, latents: Tensor, passes: Sequence[Pass]) -> list[Attention]:
        """Return each pass's cross-attention. The UNet is run no further than that takes."""
        ...

    def slope(
        self, latents: Tensor, passes: Sequence[Pass], loss: Callable[[Sequence[Attention]], Tensor]
    ) -> tuple[float, Tensor]:
        """Return a loss of the passes' cross-attention, and its gradient with respect to the latents."""
        ...


#: Returns the latents that a step is to begin with.
BeforeStep = Callable[[Step, "Tensor", Look], "Tensor"]


@dataclass(frozen=True)
class Plan:
    """A request's answer to "what next?": a record of functions. Per-request state lives in their closures."""

    passes: Callable[[Step], Sequence[Pass]]
    prompts: Mapping[str, Prompt]
    combine: Combine = weighted_mean
    before_step: BeforeStep | None = None
    looks: Callable[[Step], int] = lambda _step: 0  # how many passes `before_step` looks at
