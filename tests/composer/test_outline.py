"""Outlines: strengths by shares, by masks, from kept features; what is not settled before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from composer.masks import Box
from composer.outline import Line, Outline, outline
from composer.plan import MAIN, Area, Pass, Plan, Prediction, Prompt, Reuse, Step

STEPS = [Step(index, 2, 0.0, 0.0) for index in range(2)]
LEFT, RIGHT = Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1)
PROMPTS = {MAIN: Prompt("a")}


def of(*passes: Pass) -> Outline:
    return outline(Plan(lambda _step: passes, PROMPTS), ("a", "b"), STEPS)


def strengths(found: Outline) -> list[tuple[float, ...]]:
    return [line.strengths for line in found.lines]


def test_strengths_are_what_is_added_to_the_blend() -> None:
    found = of(Pass({"a": 0.5}, share=3.0), Pass({"b": 1.0}), Pass({"a": 1.0, "b": -1.0}))
    assert strengths(found) == [(0.5, 0.5), (0.0, 0.0)]
    assert (found.passes, found.looks, found.settled, found.merged) == ((3, 3), (0, 0), True, False)


def test_turns_are_told_step_by_step() -> None:
    turns = [[Pass({"a": 0.7})], [Pass({"b": 1.0})]]
    found = outline(Plan(lambda step: turns[step.index], PROMPTS, looks=lambda step: step.index), ("a", "b"), STEPS)
    assert strengths(found) == [(0.7, 0.0), (0.0, 1.0)]
    assert found.looks == (0, 1)


def test_masked_passes_are_not_set_against_each_other() -> None:
    found = of(Pass({"a": 1.0}, mask=LEFT), Pass({"b": 0.5}, mask=RIGHT))
    assert strengths(found) == [(1.0, 1.0), (0.5, 0.5)]
    assert [line.placed for line in found.lines] == [True, True]
    everywhere = of(Pass({"a": 1.0, "b": 1.0}, mask=LEFT), Pass({"b": 1.0}, mask=RIGHT))
    assert strengths(everywhere) == [(1.0, 1.0), (1.0, 1.0)]
    assert [line.placed for line in everywhere.lines] == [True, False]
    beside = of(Pass({"a": 1.0}), Pass({"b": 1.0}, share=3.0, mask=LEFT))
    assert strengths(beside) == [(1.0, 1.0), (0.75, 0.75)]


def test_a_lora_of_an_area_is_placed() -> None:
    found = of(Pass({"a": 1.0, "b": 1.0}, areas=(Area(LEFT, adapters=("b",)),)))
    assert [line.placed for line in found.lines] == [False, True]


def test_kept_features_are_told_where_nothing_else_acts() -> None:
    kept = Reuse("a", refresh=False)
    found = of(Pass({"a": 1.0}, reuse=kept), Pass({"b": 1.0}, reuse=kept), Pass({"b": 1.0}))
    assert [line.kept for line in found.lines] == [(True, True), (False, False)]


def test_what_is_mixed_as_it_comes_is_not_divided() -> None:
    def last(_step: Step, _passes: Sequence[Pass], predictions: Sequence[Prediction]) -> Prediction:
        return predictions[-1]

    two = (Pass({"a": 1.0}), Pass({"b": 0.5}))
    found = outline(Plan(lambda _step: two, PROMPTS, last), ("a", "b"), STEPS)
    assert (strengths(found), found.settled) == ([(1.0, 1.0), (0.5, 0.5)], False)


def test_a_second_pass_follows_the_first() -> None:
    one = of(Pass({"a": 1.0}))
    both = one.then(replace(of(Pass({"a": 0.5, "b": 1.0})), looks=(1, 0)))
    assert strengths(both) == [(1.0, 1.0, 0.5, 0.5), (0.0, 0.0, 1.0, 1.0)]
    assert (both.count, both.second, both.looks) == (4, 2, (0, 0, 1, 0))
    with pytest.raises(ValueError, match="zip"):
        one.then(Outline((Line("a", (1.0,), (False,)),), (1,), (0,)))
