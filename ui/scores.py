"""What a picture shows, judged by the detectors that come with the zoo; and what each LoRA did for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from lora_zoo.world.vocabulary import CONCEPTS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from composer.masks import Mask
    from lora_zoo.detectors import Detectors

#: From these on a concept counts as there, and as there in traces.
PRESENT, TRACES = 0.5, 0.2
_HELD_BACK = 0.3  # by how much another concept gains where a LoRA is left out, to be told
_SLOTTED = ("character", "garment", "held")
_SIDES = ("left", "right")
_CLEARLY = 2.0  # how much more of one side than of the other a region covers, to be on that side
_KNOWN = frozenset(one.name for one in CONCEPTS)

Scores = Mapping[str, float]
#: LoRA -> where it belongs; of those that belong somewhere.
Regions = Mapping[str, "Mask"]


@dataclass(frozen=True)
class Part:
    """One LoRA's part in a picture."""

    name: str
    verdict: str  # present, weak, vanished, bleeding; or changed by so much, where no detector knows it
    told: str  # why
    score: float | None  # of its concept, with all LoRAs
    without: float | None  # of its concept, where it alone is left out
    change: float  # mean difference of the pixels, 0 to 1, where it alone is left out
    outside: float | None = None  # of that difference, the part outside its region; None: it has none, or none changes


def known(names: Sequence[str]) -> list[str]:
    """Return those LoRAs whose concept the detectors know."""
    return [name for name in names if name in _KNOWN]


def judge(images: Sequence[Image]) -> list[dict[str, float]]:
    """Return every label's probability for each picture."""
    return _detectors().scores(images)


def concept(scores: Scores, name: str) -> float:
    """Return how surely a picture shows a concept, wherever."""
    from lora_zoo import detectors

    return detectors.anywhere(dict(scores), name)


def parts(names: Sequence[str], images: Sequence[Image], judged: bool, regions: Regions | None = None) -> list[Part]:
    """Compare the first picture, with all LoRAs, to those in which each is left out, in the LoRAs' order.

    A LoRA that has a region is looked for there, and bleeds where it is seen elsewhere.
    """
    scores = judge(images) if judged else []
    return [_part(place, names, images, scores, (regions or {}).get(name)) for place, name in enumerate(names)]


def difference(first: Image, second: Image) -> Image:
    """Return where two pictures differ: black where they are alike, through red to white where not at all."""
    import numpy as np
    from PIL import Image

    gap = _gap(first, second)
    channels = [np.clip(gap * 3 - n, 0, 1) for n in range(3)]
    return Image.fromarray((np.stack(channels, -1) * 255).astype(np.uint8))


def _part(
    place: int, names: Sequence[str], images: Sequence[Image], scores: Sequence[Scores], region: Mask | None
) -> Part:
    name, gap = names[place], _gap(images[0], images[1 + place])
    change, outside = float(gap.mean()), _outside(gap, region)
    beside = "" if outside is None else f"; {outside:.0%} of what it changes is outside its region"
    if not scores or name not in _KNOWN:
        told = f"no detector knows it; see how much changes without it{beside}"
        return Part(name, "not judged", told, None, None, change, outside)
    with_all, without = scores[0], scores[1 + place]
    side = None if region is None else _side(region)
    score, left = _seen(with_all, name, side), _seen(without, name, side)
    verdict, told = _verdict(with_all, name, side, left)
    held = [
        other
        for other in known(names)
        if other != name and concept(without, other) - concept(with_all, other) >= _HELD_BACK
    ]
    more = f"; it holds back {', '.join(held)}" if held else ""
    return Part(name, verdict, f"{told}{more}{beside}", score, left, change, outside)


def _seen(scores: Scores, name: str, side: str | None) -> float:
    """Return how surely a concept is seen: on a side, if it belongs to one creature, else wherever."""
    own = [scores[label] for label in _labels(name, side) if label in scores] if side is not None else []
    return max(own) if own else concept(scores, name)


def _labels(name: str, side: str) -> list[str]:
    return [f"{side}.{kind}.{name}" for kind in _SLOTTED]


def _sides_of(scores: Scores, name: str) -> list[str]:
    """Return the sides on which a concept is seen on a creature."""
    return [side for side in _SIDES if any(scores.get(label, 0.0) >= PRESENT for label in _labels(name, side))]


def _verdict(scores: Scores, name: str, side: str | None, left: float) -> tuple[str, str]:
    seen, score = _sides_of(scores, name), _seen(scores, name, side)
    if len(seen) > 1:
        return "bleeding", "its concept is on both creatures"
    if side is not None and score < PRESENT <= concept(scores, name):
        return "bleeding", f"it belongs on the {side}, and is seen elsewhere"
    if score >= PRESENT:
        return "present", "also without it: the prompt or another LoRA brings it" if left >= PRESENT else "it is there"
    if score >= TRACES:
        return "weak", "only traces of it; raise its weight, or try another method"
    return "vanished", "nothing of it is seen; raise its weight, name its trigger words, or try another method"


def _side(region: Mask) -> str | None:
    """Return the side of the picture that a region is on; None: it is not clearly on one."""
    left, right = region.at(1, 2)[0].tolist()
    if left >= _CLEARLY * right:
        return "left"
    return "right" if right >= _CLEARLY * left else None


def _outside(gap: NDArray[np.float32], region: Mask | None) -> float | None:
    """Return which part of a difference lies outside a region."""
    total = float(gap.sum())
    if region is None or not total:
        return None
    return float((gap * (1 - region.at(*gap.shape).numpy())).sum()) / total


def _gap(first: Image, second: Image) -> NDArray[np.float32]:
    """Return how far two pictures differ in each pixel, [height, width] in 0 to 1."""
    import numpy as np

    pictures = [np.asarray(one.convert("RGB").resize(first.size), np.float32) / 255 for one in (first, second)]
    return np.abs(pictures[0] - pictures[1]).mean(-1)


@lru_cache
def _detectors() -> Detectors:
    from lora_zoo.detectors import Detectors

    return Detectors.load()
