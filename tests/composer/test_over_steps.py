"""Weights over steps: positions, curves, and that a plan's passes, and what it looks at, follow them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from composer.errors import BadRequest
from composer.over_steps import factors, read, scheduled
from composer.plan import Look, Pass, Plan, Prompt, Step
from composer.request import Schedule

HALF = (0.5, 0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        (Schedule(), (1, 1, 1, 1)),
        (Schedule(start=1), (0, 1, 1, 1)),
        (Schedule(start=1, stop=3), (0, 1, 1, 0)),
        (Schedule(start=0.5), (0, 0, 1, 1)),
        (Schedule(stop=0.75), (1, 1, 1, 0)),
        (Schedule(start=0.01), (0, 1, 1, 1)),  # a part of the steps is a step at least
        (Schedule(stop=100), (1, 1, 1, 1)),
        (Schedule(start=0.75, stop=2), (0, 0, 0, 0)),
        (Schedule(curve=((0, 0.5),)), HALF),
        (Schedule(curve=((0.0, 0.0), (1.0, 1.0))), (0, 0.25, 0.5, 0.75)),
        (Schedule(curve=((1.0, 1.0), (0.0, 0.0))), (0, 0.25, 0.5, 0.75)),
        (Schedule(curve=((0.25, 2.0), (3, -2.0))), (2, 2, 0, -2)),
        (Schedule(start=1, curve=((0.0, 0.0), (0.5, 1.0))), (0, 0.5, 1, 1)),
    ],
    ids=str,
)
def test_factors_of_four_steps(schedule: Schedule, wanted: tuple[float, ...]) -> None:
    assert factors(schedule, 4) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("5-20", Schedule(start=5, stop=20)),
        ("0.25-", Schedule(start=0.25)),
        ("-8", Schedule(stop=8)),
        ("0@0,1@0.4", Schedule(curve=((0, 0), (0.4, 1)))),
        ("0@5;-1@6", Schedule(curve=((5, 0), (6, -1)))),
    ],
)
def test_as_it_is_written(text: str, wanted: Schedule) -> None:
    assert read(text) == wanted


@pytest.mark.parametrize(
    ("text", "told"),
    [("5", "START-STOP"), ("a-b", "'a'"), ("1.5-4", "neither a step"), ("1@x", "'x'"), ("1@0,2", "WEIGHT@POSITION")],
)
def test_what_is_not_understood_is_an_error(text: str, told: str) -> None:
    with pytest.raises(BadRequest) as raised:
        read(text)
    assert told in str(raised.value)


def test_passes_and_looks_have_the_weights_of_their_step() -> None:
    looked: list[Pass] = []

    class Eye:
        def attention(self, latents: Tensor, passes: list[Pass]) -> list[object]:
            looked.extend(passes)
            return []

    def before(_step: Step, latents: Tensor, look: Look) -> Tensor:
        look.attention(latents, [Pass({"a": 2.0, "b": 1.0})])
        return latents

    plan = Plan(lambda _step: [Pass({"a": 2.0, "b": 1.0}, uncond={"a": 1.0})], {"main": Prompt("")}, before_step=before)
    over = scheduled(plan, {"a": (0.0, 0.5)})
    assert over.before_step is not None
    for index, (weight, other) in enumerate([(0.0, 0.0), (1.0, 0.5)]):
        step = Step(index, 2, 0.0, 0.0)
        (one,) = over.passes(step)
        assert (one.adapters, one.uncond) == ({"a": weight, "b": 1.0}, {"a": other})
        over.before_step(step, torch.zeros(1), Eye())  # type: ignore[arg-type]
        assert looked[-1].adapters == {"a": weight, "b": 1.0}
