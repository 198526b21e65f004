"""ComposLoRA's sets (arXiv:2402.16843): one character, and at most one concept of each other category.

480 sets of two to five members over both families, in the order of the testbed's own enumeration.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product
from random import Random

from lora_zoo.world.captions import caption
from lora_zoo.world.scene import Creature, Scene, put
from lora_zoo.world.vocabulary import CATEGORIES, FAMILIES, Concept, concepts

SIZES = (2, 3, 4, 5)
_UNSAID_PLACE = "meadow"  # where the ground truth of a set without a background takes place; no prompt names it


@dataclass(frozen=True)
class ConceptSet:
    """Concepts of one family that are to appear in one picture."""

    family: str
    members: tuple[Concept, ...]  # in the order of their categories, the character first

    @property
    def name(self) -> str:
        return "+".join(one.name for one in self.members)

    def scene(self) -> Scene:
        """Return what a picture of this set shows."""
        return put(Scene(_UNSAID_PLACE, (Creature(),)), self.members)

    def prompt(self, seed: int) -> str:
        """Name the members, and nothing else, as a caption of the world does; the wording varies with the seed."""
        return caption(self.scene(), Random(f"{self.name} {seed}"), drop=1.0)


def all_sets(size: int, family: str) -> list[ConceptSet]:
    """Return every set of a family, as the testbed orders them: categories first, then members."""
    character, *others = CATEGORIES
    return [
        ConceptSet(family, members)
        for some in combinations(others, size - 1)
        for members in product(*(concepts(category, family) for category in (character, *some)))
    ]


def sample_sets(size: int, count: int) -> list[ConceptSet]:
    """Return `count` sets (or all, if there are fewer), the same at every call, half of them of each family."""
    picked: list[ConceptSet] = []
    for place, family in enumerate(FAMILIES):
        known = all_sets(size, family)
        share = min(len(known), (count + len(FAMILIES) - 1 - place) // len(FAMILIES))
        rows = Random(f"sets {family} {size}").sample(range(len(known)), share)
        picked += [known[row] for row in sorted(rows)]
    return picked
