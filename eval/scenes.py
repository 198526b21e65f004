"""Scenes and captions that no part of the model was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random

from lora_zoo.world.captions import caption
from lora_zoo.world.scene import Scene, sample_base

#: How the base model's training draws its scenes and captions; a test holds this to the trainer itself.
TRAINED_STREAM, TRAINED_SCENES, TRAINED_CAPTIONS, TRAINED_DROP = "base scenes", 16_000, 2, 0.1


@dataclass(frozen=True)
class Trained:
    """What the base model has seen."""

    scenes: frozenset[Scene]
    captions: frozenset[str]


@cache
def trained(count: int = TRAINED_SCENES) -> Trained:
    """Repeat the random draws of the base model's training, without the pictures."""
    rng = Random(TRAINED_STREAM)
    scenes = [sample_base(rng) for _ in range(count)]
    for _ in scenes:
        rng.getrandbits(31)  # the seed of its picture
    said = [caption(scene, rng, TRAINED_DROP) for _ in range(TRAINED_CAPTIONS) for scene in scenes]
    return Trained(frozenset(scenes), frozenset(said))


@dataclass(frozen=True)
class Captioned:
    """A scene in words."""

    scene: Scene
    text: str


def unseen(count: int, stream: str) -> list[Captioned]:
    """Return base scenes with full captions, neither of them in training; every third has two creatures.

    The share is fixed because most scenes with one creature were seen: rejection alone would leave few of them.
    """
    known, rng = trained(), Random(stream)
    out: list[Captioned] = []
    while len(out) < count:
        scene = sample_base(rng, two=1.0 if len(out) % 3 == 2 else 0.0)
        text = caption(scene, rng)
        if scene not in known.scenes and text not in known.captions:
            out.append(Captioned(scene, text))
    return out
