"""`duet`: two characters side by side, all 15 pairs of different ones, within a family and across.

Each pair comes eight times, with its sides exchanged every other time, in a base place; one wears a base garment, the
other does not. Where each belongs is part of the set: methods that look at regions are told the halves of the picture.
"""

from __future__ import annotations

from itertools import combinations
from random import Random

from composer.request import Region
from eval.suites.model import Composition, Suite
from eval.suites.world import dressed, member
from lora_zoo.world.captions import caption
from lora_zoo.world.scene import Creature, Scene
from lora_zoo.world.vocabulary import PLACES, Concept, concepts

NAME = "duet"
TIMES = 8
_HALVES = ((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0))


def suite() -> Suite:
    """Return 120 sets."""
    pairs = combinations(concepts("character"), 2)
    sets = [_composition(pair, time) for pair in pairs for time in range(TIMES)]
    return Suite(NAME, "two characters, one on the left and one on the right", tuple(sets))


def _composition(pair: tuple[Concept, Concept], time: int) -> Composition:
    left, right = pair if time % 2 == 0 else reversed(pair)
    key = f"{left.name}|{right.name}|{time // 2}"
    rng = Random(f"{NAME} {key}")
    place, wearer = rng.choice(tuple(PLACES)), rng.randrange(2)
    creatures = tuple(
        dressed(rng, one.name) if side == wearer else Creature(character=one.name)
        for side, one in enumerate((left, right))
    )
    scene = Scene(place, creatures)
    members = tuple(member(one, Region(box=half)) for one, half in zip((left, right), _HALVES, strict=True))
    group = left.family if left.family == right.family else "across"
    return Composition(key, group, caption(scene, rng), members, scene=scene)
