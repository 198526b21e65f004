"""`compos`: the published testbed's 480 sets (arXiv:2402.16843), on the embedded zoo.

Per family 24 sets of two, 72 of three, 96 of four and 48 of five: one character, and at most one concept of each other
category. Where no background is among them the prompt names a base place, so that every set has one true picture and
something that is to be kept.
"""

from __future__ import annotations

from random import Random

from eval.sets import SIZES, ConceptSet, all_sets
from eval.suites.model import Composition, Suite
from eval.suites.world import member
from lora_zoo.world.captions import caption
from lora_zoo.world.scene import Creature, Scene, put
from lora_zoo.world.vocabulary import FAMILIES, PLACES

NAME = "compos"


def suite() -> Suite:
    """Return all 480 sets, in the testbed's order within a family and size."""
    found = [one for size in SIZES for family in FAMILIES for one in all_sets(size, family)]
    return Suite(NAME, "one character and one to four concepts of other kinds", tuple(map(_composition, found)))


def _composition(one: ConceptSet) -> Composition:
    rng = Random(f"{NAME} {one.name}")
    scene = put(Scene(rng.choice(tuple(PLACES)), (Creature(),)), one.members)
    members = tuple(member(concept) for concept in one.members)
    return Composition(one.name, one.family, caption(scene, rng), members, scene=scene)
