"""The embedded suites: how many sets, what they ask, and that nothing but a set's own key decides its noise."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from composer.errors import UnknownChoice
from eval import suites
from eval.errors import BadSuite
from eval.suites.model import Suite
from lora_zoo.world.labels import named
from lora_zoo.world.scene import concept_names
from lora_zoo.world.vocabulary import CONCEPTS


@pytest.fixture(params=suites.EMBEDDED)
def suite(request: pytest.FixtureRequest) -> Suite:
    return suites.load(request.param)


def test_compos_has_the_testbeds_counts() -> None:
    found = Counter((one.group, one.size) for one in suites.load("compos").sets)
    per_family = {2: 24, 3: 72, 4: 96, 5: 48}
    assert found == {(family, size): n for family in ("orbit", "grove") for size, n in per_family.items()}


def test_duet_has_all_pairs_with_sides_exchanged() -> None:
    sets = suites.load("duet").sets
    ordered = Counter(tuple(member.name for member in one.members) for one in sets)
    assert len({frozenset(pair) for pair in ordered}) == 15
    assert set(ordered.values()) == {4} and all((b, a) in ordered for a, b in ordered)
    for one in sets:
        assert one.scene is not None
        assert [creature.character for creature in one.scene.creatures] == [member.name for member in one.members]
        boxes = [member.region.box for member in one.members if member.region and member.region.box]
        assert boxes[0][2] == boxes[1][0] == 0.5


def test_subject_style_has_24_pairs() -> None:
    sets = suites.load("subject_style").sets
    assert len({tuple(member.name for member in one.members) for one in sets}) == 24
    assert {member.category for one in sets for member in one.members} == {"character", "style"}


def test_prompts_name_the_members_and_scenes_show_them(suite: Suite) -> None:
    for one in suite.sets:
        assert one.scene is not None
        members = {member.name for member in one.members}
        assert {concept.name for concept in CONCEPTS if concept.phrase in one.prompt} == members
        assert concept_names(one.scene) == members
        assert set(named(one.scene)) >= {f"place.{one.scene.place}"}


def test_keys_and_seeds_differ(suite: Suite) -> None:
    assert len({one.key for one in suite.sets}) == len(suite.sets)
    cases = suite.cases(seeds=3)
    assert len({case.seed for case in cases}) == len(cases) == 3 * len(suite.sets)
    assert all(0 <= case.seed < 2**31 for case in cases)


def test_order_and_number_of_sets_change_no_case(suite: Suite) -> None:
    few, more = suite.cases(3), suite.cases(7, seeds=2)
    known = {case.name: (case.seed, case.set) for case in more}
    assert all(known[case.name] == (case.seed, case.set) for case in few)
    backwards = replace(suite, sets=tuple(reversed(suite.sets)))
    assert {(case.name, case.seed) for case in backwards.cases(3)} == {(case.name, case.seed) for case in few}


def test_a_sample_takes_evenly_from_the_groups(suite: Suite) -> None:
    found = Counter((case.set.size, case.set.group) for case in suite.cases(6))
    assert set(found.values()) == {6 // len(suite.groups)}


def test_seeds_are_fixed_for_good() -> None:
    """A seed that moved would make results of different days incomparable."""
    known = {case.name: case.seed for case in suites.load("compos").cases()}
    assert known["zorp+moon#0"] == 1602284748


def test_unknown_suites_and_wrong_maps_are_told() -> None:
    with pytest.raises(UnknownChoice, match="did you mean 'compos'"):
        suites.load("compo")
    with pytest.raises(BadSuite, match="--map FILE"):
        suites.load("composlora")
