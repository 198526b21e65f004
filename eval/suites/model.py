"""Suites as data: sets of LoRAs that are to meet in one picture, with the prompt that asks for all of them.

A case is a set with a number for its noise. Its seed comes from the set's own key, so that neither the order of the
sets nor how many of them are taken changes a picture; every method is given the same prompt and the same noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import Field

from composer.request import Frozen, PromptSyntax, Region
from lora_zoo.world.scene import Scene


class Settings(Frozen):
    """How the pictures of a set are rendered; None is the model's own default."""

    model: str = "tiny"
    num_inference_steps: int | None = Field(default=None, ge=1, le=1000)
    guidance_scale: float | None = Field(default=None, ge=1.0, le=100.0)
    scheduler: str | None = None
    width: int | None = Field(default=None, gt=0)
    height: int | None = Field(default=None, gt=0)
    prompt_syntax: PromptSyntax = "a1111"


@dataclass(frozen=True)
class Member:
    """One LoRA of a set."""

    name: str  # in reports
    category: str
    text: str  # what calls for it, without what every prompt of the suite begins with
    lora: str  # as the engine knows it
    weight: float | None = None  # None: as the LoRA's own description prefers
    region: Region | None = None  # where it belongs, for methods that ask


@dataclass(frozen=True)
class Composition:
    """One set: what is asked for, and, in the embedded world, what a perfect picture shows."""

    key: str  # no other set of the suite has it
    group: str  # what kind of set it is
    prompt: str
    members: tuple[Member, ...]
    negative: str = ""
    scene: Scene | None = None
    settings: Settings = field(default_factory=Settings)

    @property
    def size(self) -> int:
        return len(self.members)

    @property
    def text(self) -> str:
        """Return what calls for all members, as the published testbed's CLIPScore reads it."""
        return ", ".join(one.text for one in self.members)


@dataclass(frozen=True)
class Case:
    """A set with the number of its noise."""

    set: Composition
    replicate: int

    @property
    def name(self) -> str:
        return f"{self.set.key}#{self.replicate}"

    @property
    def seed(self) -> int:
        """Return the seed of its noise: 31 bits of a digest of its name."""
        return stable(self.name) >> 33


@dataclass(frozen=True)
class Suite:
    """Sets to compare methods on."""

    name: str
    about: str
    sets: tuple[Composition, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(sorted({one.size for one in self.sets}))

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.group for one in self.sets))

    @property
    def regional(self) -> bool:
        """Whether every set says where its members belong."""
        return all(member.region is not None for one in self.sets for member in one.members)

    @property
    def drawn(self) -> bool:
        """Whether every set has a ground truth."""
        return all(one.scene is not None for one in self.sets)

    def cases(self, count: int | None = None, seeds: int = 1) -> tuple[Case, ...]:
        """Return the cases of `count` sets of each size (None: of all), in the suite's order.

        They are taken evenly from the groups. A larger count holds all that a smaller one does.
        """
        chosen = self.sets if count is None else self._sample(count)
        return tuple(Case(one, replicate) for one in chosen for replicate in range(seeds))

    def _sample(self, count: int) -> Sequence[Composition]:
        keys: set[str] = set()
        for size in self.sizes:
            piles = [self._pile(size, group) for group in sorted(self.groups, key=stable)]
            turns = [pile[turn] for turn in range(max(map(len, piles))) for pile in piles if turn < len(pile)]
            keys |= {one.key for one in turns[:count]}
        return [one for one in self.sets if one.key in keys]

    def _pile(self, size: int, group: str) -> list[Composition]:
        own = [one for one in self.sets if (one.size, one.group) == (size, group)]
        return sorted(own, key=lambda one: stable(one.key))


def stable(text: str) -> int:
    """Return a whole number of 64 bits that belongs to a text on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
