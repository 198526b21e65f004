"""`subject_style`: a character in a picture style, all 24 pairs, within a family and across.

Each pair comes five times, once in every base place, with a base garment worn and a base object held.
"""

from __future__ import annotations

from itertools import product
from random import Random

from eval.suites.model import Composition, Suite
from eval.suites.world import dressed, member
from lora_zoo.world.captions import caption
from lora_zoo.world.scene import Scene
from lora_zoo.world.vocabulary import OBJECTS, PLACES, Concept, concepts

NAME = "subject_style"


def suite() -> Suite:
    """Return 120 sets."""
    pairs = product(concepts("character"), concepts("style"))
    sets = [_composition(*pair, place) for pair in pairs for place in PLACES]
    return Suite(NAME, "a character in a picture style", tuple(sets))


def _composition(character: Concept, style: Concept, place: str) -> Composition:
    key = f"{character.name}+{style.name}|{place}"
    rng = Random(f"{NAME} {key}")
    scene = Scene(place, (dressed(rng, character.name, rng.choice(tuple(OBJECTS))),), style.name)
    group = character.family if character.family == style.family else "across"
    return Composition(key, group, caption(scene, rng), (member(character), member(style)), scene=scene)
