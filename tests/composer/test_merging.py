"""The methods that merge: what they ask for, and that their parameters reach the merge."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import JsonValue

from composer import registry
from composer.merges.cat import cat
from composer.merges.dare import dare, dare_ties
from composer.merges.knots import knots
from composer.merges.lego import lego
from composer.merges.lora_soups import lora_soups
from composer.merges.magnitude import magnitude
from composer.merges.nplora import nplora
from composer.merges.opcm import opcm
from composer.merges.svd import svd
from composer.merges.ties import ties
from composer.merges.ziplora import ziplora
from composer.merging import MergingMethod
from composer.plan import Job, JobAdapter, Pass, Step
from composer.registry import Parameter
from tests.composer.merges.small import Merge, close, members, wide
from tests.requests import EXAMPLES, values

JOB = Job((JobAdapter("a", 0.8, 0.5), JobAdapter("b", -1.0, 0.0)), "a cat", "a dog", "all", 4, 8, 8)

#: Methods that stand for a merge in composer/merges: every parameter, none at its default, and that merge.
METHODS: dict[str, tuple[dict[str, JsonValue], Merge]] = {
    "cat": ({}, cat),
    "svd": ({"rank": 1}, lambda some: svd(some, 1)),
    "magnitude": ({"density": 0.3}, lambda some: magnitude(some, 0.3)),
    "ties": ({"density": 0.4, "elect": "frequency", "scale": 2.0}, lambda some: ties(some, 0.4, "frequency", 2.0)),
    "dare": ({"density": 0.3, "seed": 4, "rescale": False}, lambda some: dare(some, 0.3, 4, rescale=False)),
    "dare_ties": (
        {"density": 0.7, "seed": 9, "elect": "frequency", "scale": 0.5},
        lambda some: dare_ties(some, 0.7, 9, "frequency", 0.5),
    ),
    "knots": ({"density": 0.6, "elect": "frequency", "scale": 1.5}, lambda some: knots(some, 0.6, "frequency", 1.5)),
    "lego": ({"rank": 4, "reweight": False}, lambda some: lego(some, 4, reweight=False)),
    "opcm": ({"alpha": 0.9}, lambda some: opcm(some, 0.9)),
    "nplora": ({"mu": 2.0, "k": 1, "protected": "first"}, lambda some: nplora(some, 2.0, 1, "first")),
    "lora_soups": ({"strength": 0.5}, lambda some: lora_soups(some, 0.5)),
    "ziplora": ({"overlap": 1.0}, lambda some: ziplora(some, 1.0)),
}
NAMES = tuple(name for name in registry.names() if issubclass(registry.get(name), MergingMethod))
PARAMETERS = [(name, one) for name in NAMES for one in registry.describe(name).parameters]


def create(name: str, parameters: dict[str, JsonValue]) -> MergingMethod:
    method = registry.create(name, parameters)
    assert isinstance(method, MergingMethod)
    return method


@pytest.mark.parametrize("name", NAMES)
def test_one_pass_a_step_with_everything_merged(name: str) -> None:
    method = create(name, {})
    plan = method.start(JOB)
    for index in range(4):
        assert plan.passes(Step(index, 4, 999.0, 1.0)) == [Pass({"a": 0.8, "b": -1.0}, merge=method)]
    prompt = plan.prompts["main"]
    assert (prompt.text, prompt.negative, prompt.adapters) == ("a cat", "a dog", {"a": 0.5, "b": 0.0})
    assert prompt.merge == method
    first = method.start(replace(JOB, text_policy="first")).prompts["main"]
    assert (first.adapters, first.merge) == ({"a": 0.5}, method)


@pytest.mark.parametrize("name", METHODS)
def test_all_parameters_reach_the_merge(name: str) -> None:
    parameters, merge = METHODS[name]
    assert set(parameters) == {one.name for one in registry.describe(name).parameters}
    found, wanted = create(name, parameters).prepare(members()), merge(members())
    assert (found.digest, found.metadata) == (wanted.digest, wanted.metadata)
    assert all(close(delta, wide(wanted)[key], 0.0) for key, delta in wide(found).items())


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS)
def test_each_parameter_changes_the_adapter(name: str, parameter: Parameter) -> None:
    usual = EXAMPLES.get(name, {})
    made = [create(name, {**usual, parameter.name: value}).prepare(members()) for value in values(parameter)]
    assert len({one.digest for one in made}) == len(made)
    first, *others = map(wide, made)
    assert any(not close(delta, other[key], 1e-3) for other in others for key, delta in first.items())


@pytest.mark.parametrize("name", NAMES)
def test_a_method_is_a_value(name: str) -> None:
    parameters = {one.name: values(one)[-1] for one in registry.describe(name).parameters}
    assert create(name, parameters) == create(name, parameters)
    assert hash(create(name, parameters)) == hash(create(name, parameters))
    assert all(create(name, {}) != create(other, {}) for other in NAMES if other != name)
