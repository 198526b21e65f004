"""K-LoRA: layers ranked by hand, and what the ranking must not depend on (T18)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from composer import registry
from composer.merges.common import Weighted
from composer.merges.klora import choose, rank_layers
from composer.plan import Job, JobAdapter, Step
from lora_zoo.adapter import Adapter, DenseDelta, LowRank
from tests.composer.merges.small import adapter, close, low_rank, members

JOB = Job((JobAdapter("content", 1.0, 1.0), JobAdapter("style", 1.0, 1.0)), "a cat", "", "all", 10, 8, 8)


def lora(name: str, **layers: list[float]) -> Weighted:
    """Return a member whose layers have rank 1: up = the numbers, down = 1."""
    ups = {path: torch.tensor(numbers)[:, None] for path, numbers in layers.items()}
    return Weighted(adapter(name, {path: LowRank(torch.ones(1, 1), up) for path, up in ups.items()}), 1.0)


def pair() -> list[Weighted]:
    return [
        lora("content", a=[8.0, 0.0], b=[2.0, 2.0], c=[4.0, 0.0]),
        lora("style", a=[2.0, 0.0], b=[2.0, 2.0], d=[0.0, 1.0]),
    ]


def winners(some: list[Weighted], scale: float, style: int = 1) -> dict[str, int]:
    ranking = rank_layers(some, style)
    chosen = choose(ranking, style, scale)
    places = {id(one.delta): one.member for contenders in ranking.values() for one in contenders}
    return {path: places[id(delta)] for path, delta in chosen.items()}


def test_scores_by_hand() -> None:
    # |content|_1 / |style|_1 is 8/2 in a and 4/4 in b, so gamma = 2.5; K = 1 entry
    scores = {(path, one.member): one.score for path, some in rank_layers(pair(), 1).items() for one in some}
    wanted = {("a", 0): 3.2, ("a", 1): 2.0, ("b", 0): 0.8, ("b", 1): 2.0, ("c", 0): 1.6, ("d", 1): 1.0}
    assert scores == pytest.approx(wanted)
    assert winners(pair(), 1.0) == {"a": 0, "b": 1, "c": 0, "d": 1}
    assert winners(pair(), 1.7)["a"] == 1
    assert winners(pair(), 0.3)["b"] == 0


def test_outliers_leave_gamma() -> None:
    layers = {name: [1.0] for name in "abcd"}
    content = {**layers, "d": [100.0]}  # ratios 1, 1, 1, 100: their mean is 25.75, and 100 is more than three of it
    scores = {path: some[0].score for path, some in rank_layers([lora("c", **content), lora("s", **layers)], 1).items()}
    assert scores == pytest.approx({"a": 1.0, "b": 1.0, "c": 1.0, "d": 100.0})


def test_k_is_the_product_of_the_ranks() -> None:
    two = low_rank((4, 4), 2, 1)
    three = low_rank((4, 4), 3, 2)
    ranking = rank_layers([Weighted(adapter("c", {"q": two}), 1.0), Weighted(adapter("s", {"q": three}), 1.0)], 1)
    top = three.dense().abs().flatten().sort(descending=True).values[:6]
    assert ranking["q"][1].score == pytest.approx(float(top.sum()))


def test_a_strong_content_always_acts_and_the_choice_is_monotone() -> None:
    strong = [lora("c", a=[9.0, 0.0], b=[1.0, 1.0]), lora("s", a=[1.0, 1.0], b=[1.0, 1.0])]
    turns = [winners(strong, scale / 10) for scale in range(1, 30)]
    for path in "ab":
        order = [turn[path] for turn in turns]
        assert order == sorted(order)  # once style, always style
    assert 0 in [turn["a"] for turn in turns] and 1 in [turn["b"] for turn in turns]


def test_overall_strength_decides_nothing() -> None:
    some = members()[:2]
    louder = [some[0], replace(some[1], weight=some[1].weight * 7.0)]
    for scale in (0.6, 1.0, 1.4):
        assert winners(some, scale) == winners(louder, scale)


def test_the_same_lora_twice_is_that_lora() -> None:
    one = members()[0]
    twin = Weighted(replace(one.adapter, name="twin"), one.weight)
    for scale in (0.5, 1.0, 2.0):
        for path, delta in choose(rank_layers([one, twin], 1), 1, scale).items():
            assert close(delta.dense(), one.adapter.component("unet")[path].dense())


def test_more_than_two_and_the_style_first() -> None:
    three = [lora("s", a=[1.0, 1.0]), lora("c", a=[4.0, 0.0]), lora("d", a=[3.0, 3.0])]
    assert winners(three, 1.0, style=0) == {"a": 1}  # all of norm 2 then: tops 1, 2 and 1
    assert winners(three, 2.5, style=0) == {"a": 0}
    assert winners([three[0]], 1.0, style=0) == {"a": 0}
    assert rank_layers([Weighted(adapter("zero", {"q": DenseDelta(torch.zeros(2, 2))}), 1.0)] * 2, 1)["q"][0].score == 0


def made(parameters: dict[str, object], order: list[int], count: int = 10) -> dict[int, Adapter]:
    plan = registry.create("klora", parameters).start(JOB)  # type: ignore[arg-type]
    found: dict[int, Adapter] = {}
    for index in order:
        merge = plan.passes(Step(index, count, 999.0 - index, 1.0))[0].merge
        assert merge is not None
        found[index] = merge.prepare(pair())
    return found


def test_the_table_does_not_depend_on_who_asks_when() -> None:
    forwards, backwards = made({}, list(range(10))), made({}, list(range(9, -1, -1)))
    assert [forwards[n].digest for n in range(10)] == [backwards[n].digest for n in range(10)]
    late = {n: made({}, list(range(20)), count=20)[2 * n].digest for n in range(10)}
    assert late == {n: forwards[n].digest for n in range(10)}  # progress decides, not the number of steps


def test_content_early_and_style_late() -> None:
    def first(one: Adapter) -> float:
        return float(one.component("unet")["a"].dense().max())

    steps = made({}, list(range(10)))
    assert [first(steps[n]) for n in range(10)] == [8.0] * 8 + [2.0] * 2  # 3.2 > 2 * (0.5 + 1.5 t) until t = 0.73
    wrapped = made({"wrap": True, "beta": 1.275}, list(range(10)))  # 1.6 is passed nowhere below 1.5
    assert [first(wrapped[n]) for n in range(10)] == [8.0] * 10
