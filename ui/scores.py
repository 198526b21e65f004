"""What a picture shows, judged by the detectors that come with the zoo; and what each LoRA did for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from lora_zoo.world.vocabulary import CONCEPTS

if TYPE_CHECKING:
    from PIL.Image import Image

    from lora_zoo.detectors import Detectors

#: From these on a concept counts as there, and as there in traces.
PRESENT, TRACES = 0.5, 0.2
_HELD_BACK = 0.3  # by how much another concept gains where a LoRA is left out, to be told
_SLOTTED = ("character", "garment", "held")
_KNOWN = frozenset(one.name for one in CONCEPTS)

Scores = Mapping[str, float]


@dataclass(frozen=True)
class Part:
    """One LoRA's part in a picture."""

    name: str
    verdict: str  # present, weak, vanished, bleeding; or changed by so much, where no detector knows it
    told: str  # why
    score: float | None  # of its concept, with all LoRAs
    without: float | None  # of its concept, where it alone is left out
    change: float  # mean difference of the pixels, 0 to 1, where it alone is left out


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


def parts(names: Sequence[str], images: Sequence[Image], judged: bool) -> list[Part]:
    """Compare the first picture, with all LoRAs, to those in which each is left out, in the LoRAs' order."""
    scores = judge(images) if judged else []
    return [_part(place, names, images, scores) for place in range(len(names))]


def difference(first: Image, second: Image) -> Image:
    """Return where two pictures differ: black where they are alike, through red to white where not at all."""
    import numpy as np
    from PIL import Image

    gap = _gap(first, second)
    channels = [np.clip(gap * 3 - n, 0, 1) for n in range(3)]
    return Image.fromarray((np.stack(channels, -1) * 255).astype(np.uint8))


def _part(place: int, names: Sequence[str], images: Sequence[Image], scores: Sequence[Scores]) -> Part:
    name, change = names[place], float(_gap(images[0], images[1 + place]).mean())
    if not scores or name not in _KNOWN:
        return Part(name, "not judged", "no detector knows it; see how much changes without it", None, None, change)
    with_all, without = scores[0], scores[1 + place]
    score, left = concept(with_all, name), concept(without, name)
    verdict, told = _verdict(name, with_all, score, left)
    held = [
        other
        for other in known(names)
        if other != name and concept(without, other) - concept(with_all, other) >= _HELD_BACK
    ]
    more = f"; it holds back {', '.join(held)}" if held else ""
    return Part(name, verdict, f"{told}{more}", score, left, change)


def _verdict(name: str, scores: Scores, score: float, left: float) -> tuple[str, str]:
    places = [
        slot for slot in ("left", "right") for kind in _SLOTTED if scores.get(f"{slot}.{kind}.{name}", 0) >= PRESENT
    ]
    if len(places) > 1:
        return "bleeding", "its concept is on both creatures"
    if score >= PRESENT:
        return "present", "also without it: the prompt or another LoRA brings it" if left >= PRESENT else "it is there"
    if score >= TRACES:
        return "weak", "only traces of it; raise its weight, or try another method"
    return "vanished", "nothing of it is seen; raise its weight, name its trigger words, or try another method"


def _gap(first: Image, second: Image):  # noqa: ANN202
    import numpy as np

    pictures = [np.asarray(one.convert("RGB").resize(first.size), np.float32) / 255 for one in (first, second)]
    return np.abs(pictures[0] - pictures[1]).mean(-1)


@lru_cache
def _detectors() -> Detectors:
    from lora_zoo.detectors import Detectors

    return Detectors.load()
