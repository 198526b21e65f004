"""Outlines of requests, for every method: they are what its plan asks for, and follow what the request says."""

from __future__ import annotations

import pytest

from composer import registry
from composer.outline import Outline
from composer.request import AdapterUse, Hires, Region, RenderRequest, Schedule
from pipelines.engine import Engine
from pipelines.outlines import outlined
from pipelines.pricing import steps_of
from pipelines.resolve import resolve
from pipelines.sources import ZooSource

NAMES = ("zorp", "moon", "neon")
PROMPT = "zorp, a cratered moon, neon light"
SOURCE = ZooSource()
BOXES = ((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 0.5), (0.5, 0.5, 1.0, 1.0))


def ask(method: str, steps: int = 12, **fields: object) -> RenderRequest:
    placed = registry.get(method).uses_regions
    uses = tuple(
        AdapterUse(name=name, words=(name,), region=Region(box=box) if placed else None)
        for name, box in zip(NAMES, BOXES, strict=True)
    )
    asked = {"method": method, "prompt": PROMPT, "adapters": uses, "num_inference_steps": steps, **fields}
    return RenderRequest.model_validate(asked)


def told(request: RenderRequest) -> Outline:
    return outlined(resolve(request, SOURCE))


@pytest.mark.parametrize("method", registry.names())
def test_every_method_is_told_as_its_plan_acts(method: str) -> None:
    resolved = resolve(ask(method), SOURCE)
    found, plan = outlined(resolved), resolved.plan()
    assert [line.name for line in found.lines] == list(NAMES)
    for step, count in zip(steps_of(12), found.passes, strict=True):
        passes = plan.passes(step)
        assert count == len(passes)
        acting = {name for one in passes for name, weight in one.adapters.items() if weight}
        assert {line.name for line in found.lines if line.strengths[step.index]} == acting
        if found.settled and len({one.mask for one in passes}) == 1:
            total = sum(one.share for one in passes)
            wanted = [sum(one.share * one.adapters.get(name, 0.0) for one in passes) / total for name in NAMES]
            assert [line.strengths[step.index] for line in found.lines] == pytest.approx(wanted)


def test_a_method_that_takes_turns_is_drawn_in_turns() -> None:
    found = told(ask("switch", 6, parameters={"interval": 2}))
    assert [line.strengths for line in found.lines] == [(1, 1, 0, 0, 0, 0), (0, 0, 1, 1, 0, 0), (0, 0, 0, 0, 1, 1)]


def test_who_is_ahead_and_what_is_kept_is_seen() -> None:
    found = told(ask("cmlora"))
    assert found.ranked
    ahead = [max(found.lines, key=lambda line: line.strengths[step]).name for step in range(found.count)]
    assert set(ahead) == set(NAMES)
    assert [sum(line.strengths[step] for line in found.lines) for step in range(12)] == pytest.approx([1.0] * 12)
    assert not any(line.kept[0] for line in found.lines) and all(any(line.kept) for line in found.lines)
    assert not told(ask("cmlora", parameters={"order": "named"})).ranked


def test_weights_over_the_steps_and_a_second_pass_are_seen() -> None:
    request = ask("merge", 4, hires=Hires(scale=1.5, strength=0.5))
    first, *others = request.adapters
    fading = first.model_copy(update={"schedule": Schedule(curve=((0.0, 1.0), (1.0, 0.0)))})
    found = told(request.model_copy(update={"adapters": (fading, *others)}))
    assert found.lines[0].strengths == pytest.approx((1.0, 0.75, 0.5, 0.25, 1.0, 0.5))
    assert (found.second, found.count) == (4, 6)


def test_once_the_prompt_was_read_what_it_decides_is_told() -> None:
    """The outline that a report offers is what the plan under way asks for, its second pass included."""
    turns = {"interval": 6, "tail": 0, "pooling": "words"}
    request = ask("w_switch", 12, hires=Hires(scale=1.25, strength=0.5), parameters=turns)
    found: list[Outline] = []
    Engine().render(request, lambda report: found.append(report.pictures[0].outline()))
    guess = told(request)
    assert all(one == found[0] for one in found) and len(found) == found[0].count == guess.count == 18
    assert found[0].known and not guess.known and found[0].second == 12
    acting = [[line.name for line in found[0].lines if line.strengths[step]] for step in range(18)]
    assert all(len(one) == 1 for one in acting)
    assert found[0].lines != guess.lines  # of three LoRAs that do not count alike


def test_what_the_prompt_decides_is_said_to_be_open() -> None:
    assert [name for name in registry.names() if told(ask(name)).read] == ["w_composite", "w_switch"]
