"""The plans of the built-in methods, checked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from composer import registry
from composer.errors import BadParameter, UnknownChoice
from composer.plan import Job, JobAdapter, Pass, Step
from composer.request import TextPolicy
from composer.schedules import round_robin

JOB = Job(
    adapters=(JobAdapter("a", 0.8, 0.5), JobAdapter("b", 1.0, 1.0), JobAdapter("c", -0.6, 0.0)),
    prompt="a cat",
    negative_prompt="a dog",
    text_policy="all",
    count=20,
    height=8,
    width=8,
)


def steps(count: int = 20) -> list[Step]:
    return [Step(index, count, 999.0 - index, 1.0) for index in range(count)]


def test_merge_adds_or_averages() -> None:
    plan = registry.create("merge", {}).start(JOB)
    assert plan.passes(steps()[3]) == [Pass({"a": 0.8, "b": 1.0, "c": -0.6})]
    assert plan.prompts["main"].adapters == {"a": 0.5, "b": 1.0, "c": 0.0}
    mean = registry.create("merge", {"combine": "mean"}).start(JOB)
    assert mean.passes(steps()[0])[0].adapters == pytest.approx({"a": 0.8 / 3, "b": 1 / 3, "c": -0.2})
    assert mean.prompts["main"].adapters == pytest.approx({"a": 0.5 / 3, "b": 1 / 3, "c": 0.0})


def test_merge_without_adapters_is_the_base() -> None:
    plan = registry.create("merge", {"combine": "mean"}).start(replace(JOB, adapters=()))
    assert plan.passes(steps()[0]) == [Pass({})]


@pytest.mark.parametrize("interval", [1, 5, 30])
def test_switch_takes_turns_and_keeps_weights(interval: int) -> None:
    plan = registry.create("switch", {"interval": interval}).start(JOB)
    weights = {"a": 0.8, "b": 1.0, "c": -0.6}
    for step in steps():
        name = "abc"[step.index // interval % 3]
        assert plan.passes(step) == [Pass({name: weights[name]})]


def test_switch_in_the_reference_form() -> None:
    assert [round_robin(i, 1, 3, legacy_offset=True) for i in range(6)] == [0, 0, 1, 2, 0, 1]
    assert [round_robin(i, 5, 3, legacy_offset=True) for i in range(13)] == [0] * 6 + [1] * 5 + [2] * 2
    plan = registry.create("switch", {"legacy_offset": True}).start(JOB)
    assert [next(iter(plan.passes(step)[0].adapters)) for step in steps(12)] == ["a"] * 6 + ["b"] * 5 + ["c"]


def test_turns_differ_by_at_most_an_interval() -> None:
    for interval in (1, 3, 5):
        turns = [round_robin(i, interval, 4) for i in range(50)]
        counts = [turns.count(n) for n in range(4)]
        assert max(counts) - min(counts) <= interval


def test_composite_asks_once_per_adapter() -> None:
    plan = registry.create("composite", {}).start(JOB)
    assert plan.passes(steps()[9]) == [Pass({"a": 0.8}), Pass({"b": 1.0}), Pass({"c": -0.6})]


@pytest.mark.parametrize(
    ("method", "policy", "wanted"),
    [
        ("merge", "none", {"main": {}}),
        ("merge", "first", {"main": {"a": 0.5}}),
        ("merge", "per_lora", {"main": {"a": 0.5, "b": 1.0, "c": 0.0}}),
        ("switch", "first", {"main": {"a": 0.5}}),
        ("switch", "per_lora", {"a": {"a": 0.5}, "b": {"b": 1.0}, "c": {"c": 0.0}}),
        ("composite", "all", {"main": {"a": 0.5, "b": 1.0, "c": 0.0}}),
        ("composite", "per_lora", {"a": {"a": 0.5}, "b": {"b": 1.0}, "c": {"c": 0.0}}),
    ],
)
def test_who_reads_the_prompt(method: str, policy: TextPolicy, wanted: dict[str, dict[str, float]]) -> None:
    plan = registry.create(method, {}).start(replace(JOB, text_policy=policy))
    assert {key: dict(prompt.adapters) for key, prompt in plan.prompts.items()} == wanted
    assert all((prompt.text, prompt.negative) == ("a cat", "a dog") for prompt in plan.prompts.values())
    for step in steps():
        for one in plan.passes(step):
            assert set(wanted[one.prompt]) == set(one.adapters) or policy != "per_lora"


def test_defaults_are_the_reference_behaviour() -> None:
    policies = {name: registry.describe(name).text_policy for name in ("merge", "switch", "composite")}
    assert policies == {"merge": "all", "switch": "first", "composite": "all"}


def test_descriptions_come_from_the_fields() -> None:
    described = {one.name: one for one in registry.describe("switch").parameters}
    assert (described["interval"].kind, described["interval"].default) == ("integer", 5)
    assert (described["interval"].minimum, described["interval"].maximum) == (1, 1000)
    assert described["legacy_offset"].kind == "boolean"
    assert registry.describe("merge").parameters[0].choices == ("sum", "mean")
    assert registry.describe("cat").parameters == ()


def test_two_methods_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two methods"):
        registry.method("merge", title="Another")(registry.MethodModel)
    assert registry.describe("merge").title == "LoRA Merge"


def test_mistakes_name_the_nearest() -> None:
    with pytest.raises(UnknownChoice, match="did you mean 'switch'"):
        registry.create("swich", {})
    with pytest.raises(BadParameter, match="did you mean 'interval'"):
        registry.create("switch", {"intervall": 3})
    with pytest.raises(BadParameter, match="interval.*greater than or equal to 1.*got 0"):
        registry.create("switch", {"interval": 0})
    with pytest.raises(BadParameter, match="combine.*'sum' or 'mean'"):
        registry.create("merge", {"combine": "max"})
