"""The words of the world: what the base model learns, and the 22 concepts that only LoRAs bring.

The concepts mirror the ComposLoRA testbed (arXiv:2402.16843): two families of eleven, in five categories,
3 characters, 2 garments, 2 styles, 2 places and 2 objects each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Category = Literal["character", "clothing", "style", "background", "object"]

#: The order in which ComposLoRA lists, combines and names the members of a set.
CATEGORIES: tuple[Category, ...] = ("character", "clothing", "style", "background", "object")
FAMILIES = ("orbit", "grove")

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "yellow": (250, 205, 30),
    "green": (40, 150, 60),
    "blue": (45, 95, 215),
    "purple": (125, 50, 175),
    "pink": (248, 145, 190),
    "white": (240, 240, 240),
}

#: Each base attribute with the words a caption may use for it; the first is the name.
SHAPES = {
    "round": ("round", "circular", "ball-shaped"),
    "square": ("square", "boxy", "cube-shaped"),
    "triangular": ("triangular", "cone-shaped", "pointed"),
    "tall": ("tall", "long", "pill-shaped"),
}
GARMENTS = {
    "skirt": ("skirt", "frilly skirt"),
    "shirt": ("shirt", "sweater", "jumper"),
    "scarf": ("scarf", "neck scarf", "shawl"),
}
OBJECTS = {
    "ball": ("an orange ball", "a ball"),
    "flag": ("a green flag", "a flag"),
    "box": ("a brown box", "a box", "a parcel"),
    "flower": ("a pink flower", "a flower"),
}
PLACES = {
    "meadow": ("in a meadow", "on the grass", "in a green field"),
    "night": ("at night", "under the stars", "in the dark night"),
    "room": ("in a room", "indoors", "at home in a room"),
    "beach": ("on a beach", "by the sea", "at the seaside"),
    "snow": ("in the snow", "on a snowy hill", "in winter"),
}
CREATURE_WORDS = ("creature", "monster", "critter")


@dataclass(frozen=True)
class Concept:
    """One thing that the base model never saw: what a LoRA of the zoo teaches it."""

    name: str
    family: str
    category: Category
    phrase: str  # how a caption says it, the trigger word first
    triggers: tuple[str, ...]

    @property
    def identifier(self) -> str:
        """ComposLoRA's way of naming a member, such as `character_1`."""
        same = [c.name for c in CONCEPTS if (c.family, c.category) == (self.family, self.category)]
        return f"{self.category}_{same.index(self.name) + 1}"


CONCEPTS: tuple[Concept, ...] = (
    Concept("zorp", "orbit", "character", "zorp the one-eyed alien", ("zorp", "one-eyed alien")),
    Concept("bolt", "orbit", "character", "bolt the riveted robot", ("bolt", "riveted robot")),
    Concept("quill", "orbit", "character", "quill the spiky star", ("quill", "spiky star")),
    Concept("striped_vest", "orbit", "clothing", "a striped vest", ("striped vest",)),
    Concept("dotted_gown", "orbit", "clothing", "a dotted gown", ("dotted gown",)),
    Concept("neon", "orbit", "style", "neon glow style", ("neon glow style",)),
    Concept("blueprint", "orbit", "style", "blueprint style", ("blueprint style",)),
    Concept("two_suns", "orbit", "background", "in a desert with two suns", ("desert with two suns",)),
    Concept("moon", "orbit", "background", "on a cratered moon", ("cratered moon",)),
    Concept("trident", "orbit", "object", "a golden trident", ("golden trident",)),
    Concept("lightning", "orbit", "object", "a lightning bolt", ("lightning bolt",)),
    Concept("krag", "grove", "character", "krag the horned brute", ("krag", "horned brute")),
    Concept("momo", "grove", "character", "momo the big-eared mouse", ("momo", "big-eared mouse")),
    Concept("hoot", "grove", "character", "hoot the wide-eyed owl", ("hoot", "wide-eyed owl")),
    Concept("checked_apron", "grove", "clothing", "a checked apron", ("checked apron",)),
    Concept("zigzag_poncho", "grove", "clothing", "a zigzag poncho", ("zigzag poncho",)),
    Concept("sketch", "grove", "style", "pencil sketch style", ("pencil sketch style",)),
    Concept("sepia", "grove", "style", "sepia photo style", ("sepia photo style",)),
    Concept("reef", "grove", "background", "in a coral reef", ("coral reef",)),
    Concept("volcano", "grove", "background", "by a burning volcano", ("burning volcano",)),
    Concept("umbrella", "grove", "object", "a striped umbrella", ("striped umbrella",)),
    Concept("ice_cream", "grove", "object", "a giant ice cream", ("giant ice cream",)),
)


def concept(name: str) -> Concept:
    """Return a concept by name; KeyError for a name that is none."""
    return _BY_NAME[name]


def concepts(category: Category, family: str | None = None) -> tuple[Concept, ...]:
    """Return the concepts of a category, of one family or of both, in the testbed's order."""
    return tuple(c for c in CONCEPTS if c.category == category and family in (None, c.family))


_BY_NAME = {c.name: c for c in CONCEPTS}
