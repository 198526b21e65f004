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
    from composer.texts import TextEmbedding
    from lora_zoo.adapter import Adapter

#: Adapter name -> weight. Ordered: sums over adapters are always taken in this order.
AdapterWeights = Mapping[str, float]

MAIN = "main"

#: What a pass may use of a UNet beyond its prediction.
Capability = Literal["cross-attention", "deep features"]

#: Pictures by what they show, each [height, width] in 0 to 1.
Findings = Mapping[str, "Tensor"]


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
    What an area leans to is read more there, and what it leans away from less, and its adapters leave that alone.
    """

    mask: Mask
    prompt: str = MAIN  # a key of Plan.prompts
    adapters: tuple[str, ...] = ()
    alone: bool = False  # self-attention joins nothing inside with anything inside another such area
    leans: tuple[tuple[str, float], ...] = ()  # words of its prompt -> what is added to their scores inside


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
    """One evaluation of the UNet for one image: a conditional row and, with guidance, an unconditional one."""

    adapters: AdapterWeights
    prompt: str = MAIN  # a key of Plan.prompts
    share: float = 1.0  # its part in the blend of predictions
    merge: Merge | None = None  # the pass uses what this makes of its adapters; None: their sum
    uncond: AdapterWeights | Literal["same", "off"] = "same"  # the sum in its unconditional row; off: it has none
    mask: Mask | None = None  # where it takes part in the blend of predictions; None: everywhere
    areas: tuple[Area, ...] = ()
    reuse: Reuse | None = None
    capture: bool = False  # return attention with the prediction; a pass that takes kept features cannot
    places: bool = False  # and with it how places read and resemble each other

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
    places: Callable[[str], tuple[int, ...]]  # of words among the tokens; of no words, of all
    areas: tuple[Attention, ...] = ()  # of the prompts of the pass's areas, also where they are not read
    between: Tensor | None = None  # how much each place reads every other in self-attention, [h * w, h * w]
    alike: Tensor | None = None  # inner products of what self-attention returns, [h * w, h * w]; no mean over heads

    def of(self, words: str) -> Tensor:
        """Return the maps of the tokens of these words, wherever the prompt holds them, [n, h, w]; of none, of all."""
        return self.maps[list(self.places(words))]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What one pass returned. `uncond` is None when guidance is off, or the pass has no unconditional row."""

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
    weighted: bool = False  # the texts have A1111's emphasis and may be longer than the encoder reads at once


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
    words: tuple[str, ...] = ()  # of the prompt, that belong to it
    region: JobRegion | None = None  # None: everywhere
    frequency: float | None = None  # how much of what it draws is fine detail; None: not measured
    factors: tuple[float, ...] = ()  # of its weight in the UNet, in each step; empty: 1. Methods need not look


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

    The unconditional blend is of the passes that have such a row. Where passes have masks, each place is a blend of
    those that take part there; the plan sees to it that there is one everywhere.
    """
    if len(predictions) == 1:
        return predictions[0]
    both = list(zip(passes, predictions, strict=True))
    weights = [_weight(one, found.cond) for one, found in both]
    unconds = [(weight, found.uncond) for weight, (_, found) in zip(weights, both, strict=True)]
    answered = [(weight, uncond) for weight, uncond in unconds if uncond is not None]
    conds = [(weight, found.cond) for weight, (_, found) in zip(weights, both, strict=True)]
    return Prediction(_blend(conds), _blend(answered) if answered else None)


def _weight(one: Pass, like: Tensor) -> float | Tensor:
    """Return a pass's part in the blend, [h, w] if it has a mask."""
    return one.share if one.mask is None else one.share * one.mask.at(*like.shape[-2:]).to(like)


def _blend(weighted: Sequence[tuple[float | Tensor, Tensor]]) -> Tensor:
    total = sum(weight for weight, _ in weighted)
    mixed = weighted[0][1] * (weighted[0][0] / total)
    for weight, tensor in weighted[1:]:
        mixed = mixed + tensor * (weight / total)
    return mixed


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

    def ahead(self, latents: Tensor, one: Pass, count: int) -> Attention:
        """Return a pass's attention in the last of so many steps from here, each made of this pass, then forgotten."""
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
    looks: Callable[[Step], int] = lambda _step: 0  # how many passes `before_step` looks at, at most
    findings: Callable[[], Findings] = dict  # what to show of what was found so far; asked for at any time
