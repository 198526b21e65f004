"""What the suites of the embedded world share."""

from __future__ import annotations

from random import Random

from composer.request import Region
from eval.suites.model import Member
from lora_zoo.world.scene import Creature
from lora_zoo.world.vocabulary import COLOURS, GARMENTS, Concept


def member(concept: Concept, region: Region | None = None) -> Member:
    """Return a concept of the zoo as a member; its LoRA has the same name."""
    return Member(concept.name, concept.category, ", ".join(concept.triggers), concept.name, region=region)


def dressed(rng: Random, character: str, held: str | None = None) -> Creature:
    """Return a character that wears something of the base vocabulary, and may hold something."""
    garment, colour = rng.choice(tuple(GARMENTS)), rng.choice(tuple(COLOURS))
    return Creature(garment=garment, garment_colour=colour, held=held, character=character)
