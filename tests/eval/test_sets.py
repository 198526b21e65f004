"""The testbed's 480 sets: how many, in which order, and what their prompts name."""

from __future__ import annotations

from collections import Counter

import pytest

from eval.sets import SIZES, all_sets, sample_sets
from lora_zoo.world.labels import named
from lora_zoo.world.scene import concept_names
from lora_zoo.world.vocabulary import COLOURS, CONCEPTS, FAMILIES, OBJECTS, PLACES, SHAPES

PER_FAMILY = {2: 24, 3: 72, 4: 96, 5: 48}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("size", "count"), PER_FAMILY.items())
def test_each_family_has_the_testbeds_number_of_different_sets(family: str, size: int, count: int) -> None:
    found = all_sets(size, family)
    assert len({one.name for one in found}) == len(found) == count
    assert all(len(one.members) == size and {m.family for m in one.members} == {family} for one in found)


def test_there_are_480_in_all() -> None:
    assert sum(len(all_sets(size, family)) for size in SIZES for family in FAMILIES) == 480


def test_the_order_is_categories_first_then_members() -> None:
    pairs = [one.name for one in all_sets(2, "orbit")]
    assert pairs[:3] == ["zorp+striped_vest", "zorp+dotted_gown", "bolt+striped_vest"]
    assert pairs[6] == "zorp+neon"
    assert pairs[-1] == "quill+lightning"
    assert all_sets(3, "grove")[0].name == "krag+checked_apron+sketch"
    assert all_sets(5, "orbit")[-1].name == "quill+dotted_gown+blueprint+moon+lightning"


@pytest.mark.parametrize("size", SIZES)
def test_a_sample_is_the_same_every_time_and_half_of_each_family(size: int) -> None:
    picked = sample_sets(size, 40)
    assert picked == sample_sets(size, 40)
    assert Counter(one.family for one in picked) == {family: 20 for family in FAMILIES}
    assert len({one.name for one in picked}) == 40


def test_a_large_sample_is_all_there_is() -> None:
    assert sum(len(sample_sets(size, 192)) for size in SIZES) == 480


@pytest.mark.parametrize("size", SIZES)
def test_prompts_name_the_members_and_nothing_else(size: int) -> None:
    words = {*COLOURS, *SHAPES}
    phrases = [phrase for known in (OBJECTS, PLACES) for some in known.values() for phrase in some]
    for one in sample_sets(size, 40):
        prompt, members = one.prompt(3), {m.name for m in one.members}
        assert {c.name for c in CONCEPTS if c.phrase in prompt} == members
        assert not any(phrase in prompt for phrase in phrases)
        assert not words & set(prompt.replace(",", "").split())
        assert concept_names(one.scene()) == members
        assert len(named(one.scene())) == size + (one.scene().place == "meadow")
