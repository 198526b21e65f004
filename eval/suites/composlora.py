"""`composlora`: the published testbed (arXiv:2402.16843), 480 sets, for users who own its LoRAs.

Only the structure comes along: identifiers, trigger words, prompts, settings. A file maps each identifier, such as
`anime/character_1`, to a LoRA, and each family to its checkpoint:

    models: {anime: path/to/counterfeit, reality: path/to/realistic}
    loras: {anime/character_1: path/to/file.safetensors, …}
    negative: {anime: …, reality: …}   # the authors' are long lists of tags; none is the default here

Sets with a LoRA that is not mapped are left out, and `about` counts them. Deviation: noise is drawn per set, not from
one stream for the whole run, so that a run can be stopped and resumed; the reference's seed 111 has no meaning here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import combinations, product
from pathlib import Path

from pydantic import Field

from composer.errors import UnknownChoice
from composer.request import Frozen
from eval.errors import BadSuite
from eval.suites import files
from eval.suites.model import Composition, Member, Settings, Suite
from lora_zoo.world.vocabulary import CATEGORIES

NAME = "composlora"
SIZES = (2, 3, 4, 5)
_DATA = Path(__file__).with_suffix(".json")


class Family(Frozen):
    """One half of the testbed."""

    prefix: str
    settings: Settings
    members: Mapping[str, tuple[str, ...]]  # identifier -> trigger words, in the order of composition


class Testbed(Frozen):
    """What the authors published."""

    source: str
    weight: float
    families: Mapping[str, Family]


class Owned(Frozen):
    """A user's own files."""

    models: Mapping[str, str]
    loras: Mapping[str, str] = Field(min_length=1)
    negative: Mapping[str, str] = Field(default_factory=dict)
    settings: Mapping[str, Settings] = Field(default_factory=dict, description="In place of the testbed's, per family.")


@cache
def testbed() -> Testbed:
    """Return the published structure."""
    return Testbed.model_validate(json.loads(_DATA.read_text("utf-8")))


def identifiers() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield every set of the testbed: its family and its members' identifiers, as the authors enumerate them."""
    character, *others = CATEGORIES
    for size in SIZES:
        for name, family in testbed().families.items():
            own = {kind: [one for one in family.members if one.startswith(f"{kind}_")] for kind in CATEGORIES}
            for some in combinations(others, size - 1):
                yield from ((name, members) for members in product(*(own[kind] for kind in (character, *some))))


def prompt(family: str, members: tuple[str, ...]) -> str:
    """Return the testbed's prompt: what every picture of the family is to be, then all trigger words."""
    known = testbed().families[family]
    return ", ".join((known.prefix, *(word for one in members for word in known.members[one])))


def suite(path: Path) -> Suite:
    """Return the sets whose LoRAs a file maps."""
    owned = files.read(Owned, path)
    _check(owned)
    every = list(identifiers())
    mine = [(family, some) for family, some in every if all(f"{family}/{one}" in owned.loras for one in some)]
    if not mine:
        raise BadSuite(f"{path} maps {', '.join(owned.loras)}: no set of the testbed has no other members")
    about = f"the published testbed's sets; {len(every) - len(mine)} of 480 left out, whose LoRAs are not mapped"
    return Suite(NAME, about, tuple(_composition(owned, family, some, path) for family, some in mine))


def _composition(owned: Owned, family: str, some: tuple[str, ...], path: Path) -> Composition:
    known = testbed().families[family]
    weight = testbed().weight
    members = tuple(
        Member(
            one,
            one.rsplit("_", 1)[0],
            ", ".join(known.members[one]),
            files.beside(path, owned.loras[f"{family}/{one}"]),
            weight,
        )
        for one in some
    )
    settings = owned.settings.get(family, known.settings)
    model = files.beside(path, owned.models[family])
    return Composition(
        key=f"{family}/{'+'.join(some)}",
        group=family,
        prompt=prompt(family, some),
        members=members,
        negative=owned.negative.get(family, ""),
        settings=settings.model_copy(update={"model": model}),
    )


def _check(owned: Owned) -> None:
    families = testbed().families
    known = [f"{family}/{one}" for family, found in families.items() for one in found.members]
    for one in owned.loras:
        if one not in known:
            raise UnknownChoice("member of the testbed", one, known)
    for one in (*owned.models, *owned.negative, *owned.settings):
        if one not in families:
            raise UnknownChoice("family of the testbed", one, families)
    for family in sorted({one.split("/")[0] for one in owned.loras} - set(owned.models)):
        raise BadSuite(f"LoRAs of {family} are mapped, but no model for them: add models: {{{family}: …}}")
