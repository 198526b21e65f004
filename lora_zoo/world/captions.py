"""Scenes in words: a small grammar with synonyms, so that a user can type freely and be understood."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from lora_zoo.world.scene import Creature, Scene
from lora_zoo.world.vocabulary import CREATURE_WORDS, GARMENTS, OBJECTS, PLACES, SHAPES, concept

T = TypeVar("T")

_OPENINGS = ("", "", "", "a picture of ", "a drawing of ", "an image of ")


def caption(scene: Scene, rng: Random, drop: float = 0.0) -> str:
    """Describe the scene; each base attribute is left unsaid with probability `drop`, concepts never are."""
    opening = rng.choice(_OPENINGS)
    figures = [_figure(one, rng, drop) for one in scene.creatures]
    if len(figures) == 1:
        said = figures[0]
    elif opening or rng.random() < 0.75:
        said = f"{figures[0]} on the left and {figures[1]} on the right"
    else:
        said = f"on the left {figures[0]}, on the right {figures[1]}"
    place = _place(scene.place, rng, drop)
    if place:
        said = f"{place}, {said}" if not opening and rng.random() < 0.15 else f"{said} {place}"
    said = opening + said
    return f"{said}, {concept(scene.style).phrase}" if scene.style else said


def plain_caption(scene: Scene) -> str:
    """Describe the scene with the first word for everything and nothing left out."""
    return caption(scene, _First())


class _First(Random):
    """Always the first choice: the plain wording comes from the same grammar as all others."""

    def choice(self, seq: Sequence[T]) -> T:  # pyright: ignore[reportIncompatibleMethodOverride]  # narrower on purpose
        return seq[0]

    def random(self) -> float:
        return 0.5


def _figure(one: Creature, rng: Random, drop: float) -> str:
    said = concept(one.character).phrase if one.character else _body(one, rng, drop)
    garment = _garment(one, rng, drop)
    held = _held(one, rng, drop)
    if garment:
        said += rng.choice((" wearing ", " in ", " dressed in ")) + garment
    if held:
        said += rng.choice((" holding ", " carrying ", " with ")) + held
    return said


def _body(one: Creature, rng: Random, drop: float) -> str:
    colour = one.colour if one.colour and rng.random() >= drop else None
    shape = rng.choice(SHAPES[one.shape]) if one.shape and rng.random() >= drop else None
    words = [colour, shape] if rng.random() < 0.8 else [shape, colour]
    return " ".join(["a", *(w for w in words if w), rng.choice(CREATURE_WORDS)])


def _garment(one: Creature, rng: Random, drop: float) -> str | None:
    if one.garment is None:
        return None
    if one.garment not in GARMENTS:
        return concept(one.garment).phrase
    if rng.random() < drop:
        return None
    word = rng.choice(GARMENTS[one.garment])
    return f"a {one.garment_colour} {word}" if rng.random() >= drop / 2 else f"a {word}"


def _held(one: Creature, rng: Random, drop: float) -> str | None:
    if one.held is None:
        return None
    if one.held not in OBJECTS:
        return concept(one.held).phrase
    return rng.choice(OBJECTS[one.held]) if rng.random() >= drop else None


def _place(place: str, rng: Random, drop: float) -> str | None:
    if place not in PLACES:
        return concept(place).phrase
    return rng.choice(PLACES[place]) if rng.random() >= drop else None
