"""What a picture shows, as data: a scene is sampled, drawn, put into words and asked about by the detectors."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from lora_zoo.world.vocabulary import COLOURS, CONCEPTS, GARMENTS, OBJECTS, PLACES, SHAPES, Concept, concepts

SLOTS = ("centre", "left", "right")


@dataclass(frozen=True)
class Creature:
    """One figure. A character of the zoo brings its own body, so it has no base shape or colour."""

    shape: str | None = None
    colour: str | None = None
    garment: str | None = None  # a base garment, or the name of a clothing concept
    garment_colour: str | None = None  # base garments only
    held: str | None = None  # a base object, or the name of an object concept
    character: str | None = None


@dataclass(frozen=True)
class Scene:
    """A place, one or two creatures (left, right), and perhaps a picture style."""

    place: str
    creatures: tuple[Creature, ...]
    style: str | None = None

    def slots(self) -> tuple[tuple[str, Creature], ...]:
        """Pair each creature with where it stands."""
        names = ("centre",) if len(self.creatures) == 1 else ("left", "right")
        return tuple(zip(names, self.creatures, strict=True))


def _creature(rng: Random) -> Creature:
    garment = rng.choice((*GARMENTS, None))
    return Creature(
        shape=rng.choice(tuple(SHAPES)),
        colour=rng.choice(tuple(COLOURS)),
        garment=garment,
        garment_colour=rng.choice(tuple(COLOURS)) if garment else None,
        held=rng.choice((*OBJECTS, None)),
    )


def _with(one: Creature, taken: Concept) -> Creature:
    if taken.category == "character":
        return Creature(None, None, one.garment, one.garment_colour, one.held, taken.name)
    if taken.category == "clothing":
        return Creature(one.shape, one.colour, taken.name, None, one.held, one.character)
    return Creature(one.shape, one.colour, one.garment, one.garment_colour, taken.name, one.character)


def sample_base(rng: Random, two: float = 1 / 3) -> Scene:
    """Sample a scene of the base vocabulary; a share `two` of them has two creatures."""
    count = 2 if rng.random() < two else 1
    return Scene(rng.choice(tuple(PLACES)), tuple(_creature(rng) for _ in range(count)))


def put(scene: Scene, chosen: tuple[Concept, ...], slot: int = 0) -> Scene:
    """Return the scene with the concepts in it, those that belong to a creature at one slot."""
    creatures, place, style = list(scene.creatures), scene.place, scene.style
    for one in chosen:
        if one.category == "style":
            style = one.name
        elif one.category == "background":
            place = one.name
        else:
            creatures[slot] = _with(creatures[slot], one)
    return Scene(place, tuple(creatures), style)


def sample_any(rng: Random, rate: float = 0.5, two: float = 1 / 3) -> Scene:
    """Sample a scene in which every category holds a concept with probability `rate` (styles at half of it)."""
    scene = sample_base(rng, two)
    world = [rng.choice(concepts("background"))] if rng.random() < rate else []
    world += [rng.choice(concepts("style"))] if rng.random() < rate / 2 else []
    scene = put(scene, tuple(world))
    for slot in range(len(scene.creatures)):
        own = [rng.choice(concepts(c)) for c in ("character", "clothing", "object") if rng.random() < rate]
        scene = put(scene, tuple(own), slot)
    return scene


def concept_names(scene: Scene) -> set[str]:
    """Name the zoo concepts that the scene shows."""
    said = {scene.place, scene.style}
    for one in scene.creatures:
        said |= {one.garment, one.held, one.character}
    return {c.name for c in CONCEPTS if c.name in said}
