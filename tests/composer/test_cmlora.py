"""CMLoRA's schedule, turns and shares, checked by hand (T11, T12)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import JsonValue

from composer import registry
from composer.errors import BadRequest
from composer.plan import Job, JobAdapter, Pass, Reuse, Step
from composer.schedules import refresh_steps


def plan(count: int, steps: int = 40, **parameters: JsonValue) -> list[list[Pass]]:
    job = Job(tuple(JobAdapter(f"l{n}", 1.0, 1.0) for n in range(count)), "a cat", "", "all", steps, 8, 8)
    made = registry.create("cmlora", parameters).start(job)
    return [list(made.passes(Step(index, steps, 999.0, 1.0))) for index in range(steps)]


def dominants(passes: list[list[Pass]]) -> list[int]:
    return [max(range(len(some)), key=lambda place: some[place].share) for some in passes]


def test_the_papers_refresh_steps() -> None:
    wanted = [*range(0, 75, 2), *range(75, 175, 3), *range(175, 200, 2)]
    assert wanted[37:40] == [74, 75, 78] and wanted[-1] == 199
    assert list(refresh_steps(200, 0)) == wanted
    assert refresh_steps(7, 3) == (0, 3, 6) and refresh_steps(3, 1) == (0, 1, 2)
    for count in range(1, 60):
        steps = refresh_steps(count, 0)
        assert steps[0] == 0 and sorted(set(steps)) == list(steps) and steps[-1] < count


@pytest.mark.parametrize(("count", "ahead", "other"), [(2, 0.6, 0.4), (3, 0.5556, 0.2222), (5, 0.5294, 0.1176)])
def test_shares(count: int, ahead: float, other: float) -> None:
    for some in plan(count):
        total = sum(one.share for one in some)
        shares = sorted(one.share / total for one in some)
        assert shares == pytest.approx([*[other] * (count - 1), ahead], abs=1e-4)
    assert all(one.share == 1.0 for some in plan(count, lead=0.0) for one in some)


def test_a_lead_that_shrinks() -> None:
    turns = [max(one.share for one in some) for some in plan(4, 12, interval=2, decay=True)][::2]
    assert turns == [3.5, 3.0, 2.75, 2.625, 2.5625, 2.53125]
    assert {max(one.share for one in some) for some in plan(2, decay=True)[2:]} == {1.0}  # never behind the others


def test_turns_go_round() -> None:
    assert dominants(plan(3, 8, interval=2)) == [0, 0, 1, 1, 2, 2, 0, 0]


def test_backgrounds_join_late() -> None:
    found = dominants(plan(3, 22, interval=2, low=1))
    assert found[:12:2] == [0, 1, 0, 1, 0, 1]
    assert found[12::2] == [1, 2, 1, 2, 1]  # turns 6 to 10, round all but the first
    assert dominants(plan(3, 8, interval=2, low=3)) == dominants(plan(3, 8, interval=2))
    assert dominants(plan(1, 8, low=1)) == [0] * 8


def test_who_is_computed_whole() -> None:
    """All in the first step; then one per turn, the dominant, in the turn's first step."""
    found = plan(3, 8, interval=2)
    whole = [[one.reuse == Reuse(f"l{n}", True) for n, one in enumerate(some)] for some in found]
    none = [False] * 3
    assert whole[:3] == [[True] * 3, none, [False, True, False]]
    assert whole[3:] == [none, [False, False, True], none, [True, False, False], none]
    assert [one.shallow for some in found for one in some] == [not each for some in whole for each in some]


@pytest.mark.parametrize("parameters", [{"reuse": "off"}, {"interval": 1}])
def test_without_reuse(parameters: dict[str, Any]) -> None:
    assert all(one.reuse is None for some in plan(3, **parameters) for one in some)


def test_the_cache_point() -> None:
    assert plan(2, reuse="layer")[1][0].reuse == Reuse("l0", False, 1)
    assert plan(2)[1][0].reuse == Reuse("l0", False, 0)
    assert plan(1)[1][0].reuse is None  # one LoRA is plain LoRA


def test_the_order_is_from_high_to_low_frequency() -> None:
    """Equal ones stay as named; an unmeasured one is refused, unless the order is as named, or there is one LoRA."""
    measured = (0.3, 0.9, 0.5, 0.5)
    job = Job(
        tuple(JobAdapter(f"l{n}", 1.0, 1.0, frequency=one) for n, one in enumerate(measured)), "", "", "all", 4, 8, 8
    )

    def order(**parameters: JsonValue) -> list[str]:
        made = registry.create("cmlora", parameters).start(job)
        return [next(iter(one.adapters)) for one in made.passes(Step(0, 4, 999.0, 1.0))]

    assert order() == ["l1", "l2", "l3", "l0"] and order(order="named") == ["l0", "l1", "l2", "l3"]
    unknown = replace(job, adapters=(*job.adapters[:1], JobAdapter("new", 1.0, 1.0)))
    with pytest.raises(BadRequest, match="that of 'new' was not measured; run `python app.py zoo profile new`"):
        registry.create("cmlora", {}).check(unknown)
    registry.create("cmlora", {"order": "named"}).check(unknown)
    registry.create("cmlora", {}).check(replace(job, adapters=unknown.adapters[1:]))
