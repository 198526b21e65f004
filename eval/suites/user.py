"""Suites that users write, in YAML:

name: mine
settings: {model: path/to/sd15, num_inference_steps: 30, guidance_scale: 7}
prefix: best quality            # begins every prompt that is made from members
members:
  hero: {lora: hero.safetensors, category: character, triggers: [hero, red cape], weight: 0.8}
  ink:  {lora: ink, category: style, triggers: [ink style]}
sets:
  - members: [hero, ink]        # prompt: "best quality, hero, red cape, ink style"
  - {members: [hero, ink], prompt: a hero by the sea, key: by the sea, group: outdoors, negative: blurry}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from composer.errors import UnknownChoice
from composer.request import Frozen, Region
from eval.errors import BadSuite
from eval.suites import files
from eval.suites.model import Composition, Member, Settings, Suite


class UserMember(Frozen):
    """A LoRA as a suite's file names it."""

    lora: str = Field(min_length=1)
    triggers: tuple[str, ...] = Field(min_length=1)
    category: str = "other"
    weight: float | None = None
    region: Region | None = None


class UserSet(Frozen):
    """A set as a suite's file names it."""

    members: tuple[str, ...] = Field(min_length=1)
    prompt: str | None = None
    negative: str = ""
    key: str | None = None
    group: str = "all"


class UserSuite(Frozen):
    """A suite's file."""

    name: str = Field(pattern=r"^[\w-]+$")
    about: str = ""
    settings: Settings = Field(default_factory=Settings)
    prefix: str = ""
    members: Mapping[str, UserMember] = Field(min_length=1)
    sets: tuple[UserSet, ...] = Field(min_length=1)


def suite(path: Path) -> Suite:
    """Return a user's suite; what is wrong with its file is one typed error."""
    written = files.read(UserSuite, path)
    model = files.beside(path, written.settings.model)
    settings = written.settings.model_copy(update={"model": model})
    sets = tuple(_composition(one, written, settings, path) for one in written.sets)
    keys = [one.key for one in sets]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise BadSuite(f"{path}: several sets are called {', '.join(twice)}; give each a key of its own")
    return Suite(written.name, written.about or f"sets of {path.name}", sets)


def _composition(one: UserSet, written: UserSuite, settings: Settings, path: Path) -> Composition:
    for name in one.members:
        if name not in written.members:
            raise UnknownChoice(f"member of a set in {path.name}", name, written.members)
    members = tuple(_member(name, written.members[name], path) for name in one.members)
    texts = [written.prefix, *(member.text for member in members)]
    return Composition(
        key=one.key or "+".join(one.members),
        group=one.group,
        prompt=one.prompt if one.prompt is not None else ", ".join(text for text in texts if text),
        members=members,
        negative=one.negative,
        settings=settings,
    )


def _member(name: str, one: UserMember, path: Path) -> Member:
    lora = files.beside(path, one.lora)
    return Member(name, one.category, ", ".join(one.triggers), lora, one.weight, one.region)
