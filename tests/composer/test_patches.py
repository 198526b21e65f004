"""Weights per patch, checked by hand; and LoRAtorio's blend on small predictions."""

from __future__ import annotations

from dataclasses import replace
from math import exp

import pytest
import torch
from pydantic import JsonValue
from torch import Tensor

from composer import registry
from composer.patches import blend, likeness, softmin
from composer.plan import Job, JobAdapter, Pass, Prediction, Step, weighted_mean

JOB = Job(tuple(JobAdapter(name, 1.0, 1.0) for name in "abc"), "a cat", "", "all", 4, 5, 7)
STEP = Step(1, 4, 700.0, 2.0)
HOT: dict[str, JsonValue] = {"temperature": 1000.0}


def drawn(seed: int, height: int = 5, width: int = 7) -> Tensor:
    return torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(seed))


def predictions(count: int, guided: bool = True) -> list[Prediction]:
    return [Prediction(drawn(2 * n), drawn(2 * n + 1) if guided else None) for n in range(count)]


def loratorio(found: list[Prediction], **parameters: JsonValue) -> Prediction:
    job = replace(JOB, adapters=JOB.adapters[: len(found) - 1])
    plan = registry.create("loratorio", parameters).start(job)
    return plan.combine(STEP, plan.passes(STEP), found)


def test_likeness_of_patches_by_hand() -> None:
    one = torch.tensor([[[[1.0, 0.0, 2.0], [0.0, 1.0, 0.0], [3.0, 3.0, -1.0]]]])
    other = torch.tensor([[[[1.0, 1.0, 2.0], [1.0, 1.0, 2.0], [0.0, 3.0, 1.0]]]])
    wanted = [[2 / (2 * 4) ** 0.5, 4 / (4 * 8) ** 0.5], [9 / (18 * 9) ** 0.5, -1.0]]
    assert torch.allclose(likeness(one, other, 2)[0, 0], torch.tensor(wanted))
    whole = torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0)
    assert likeness(one, other, 64).shape == (1, 1, 1, 1)
    assert float(likeness(one, other, 64)) == pytest.approx(float(whole))
    assert likeness(torch.zeros_like(one), other, 2).tolist() == [[[[0.0, 0.0], [0.0, 0.0]]]]


def test_softmin_by_hand() -> None:
    alike = [torch.tensor([[[[1.0, 0.5]]]]), torch.tensor([[[[0.0, 0.5]]]])]
    weights = softmin(alike, 0.5, 0)
    assert weights[:, 0, 0, 0].tolist() == pytest.approx([1 / (1 + exp(2)), exp(2) / (1 + exp(2))])
    assert weights[:, 0, 0, 1].tolist() == [0.5, 0.5]


def test_weights_add_up_in_every_patch() -> None:
    alike = [likeness(drawn(n), drawn(9), 2) for n in range(4)]
    for temperature in (0.0001, 0.02, 1.0, 1000.0):
        weights = softmin(alike, temperature, 0)
        assert weights.shape == (4, 1, 3, 4) and float(weights.min()) >= 0.0
        assert torch.allclose(weights.sum(0), torch.ones(1, 3, 4), atol=1e-6)
    assert torch.allclose(weights, torch.full_like(weights, 0.25), atol=1e-3)


def test_only_those_that_differ_most_take_part() -> None:
    alike = [torch.full((1, 1, 2, 2), level) for level in (0.9, 0.2, 0.99, 0.5)]
    weights = softmin(alike, 1000.0, 2)[:, 0, 0, 0]
    assert weights.tolist() == pytest.approx([0.0, 0.5, 0.0, 0.5], abs=1e-3)
    assert torch.equal(softmin(alike, 0.1, 4), softmin(alike, 0.1, 0))
    assert torch.equal(softmin(alike, 0.1, 99), softmin(alike, 0.1, 0))


def test_blending_by_patch() -> None:
    weights = torch.tensor([[[[1.0, 0.0]]], [[[0.0, 1.0]]]])
    mixed = blend(weights, [torch.full((1, 2, 2, 3), 5.0), torch.full((1, 2, 2, 3), 7.0)], 2)
    assert mixed[0, 0].tolist() == [[5.0, 5.0, 7.0], [5.0, 5.0, 7.0]]


def test_the_most_different_wins_its_patch() -> None:
    base, same, other = drawn(0), drawn(0), drawn(1)
    found = [Prediction(base), Prediction(same), Prediction(other)]
    assert torch.allclose(loratorio(found, temperature=0.0001).cond, other, atol=1e-5)
    weights = softmin([likeness(one.cond, base, 4) for one in found[1:]], 0.02, 0)
    assert bool((weights[0] < weights[1]).all())


def test_identical_loras_are_one() -> None:
    base, lora = predictions(2)
    mixed = loratorio([base, lora, lora, lora], recentring=0.0)
    assert mixed.uncond is not None and lora.uncond is not None
    assert torch.allclose(mixed.cond, lora.cond, atol=1e-6) and torch.allclose(mixed.uncond, lora.uncond, atol=1e-6)


def test_hot_and_not_recentred_is_composite() -> None:
    base, *loras = predictions(4)
    mixed = loratorio([base, *loras], recentring=0.0, **HOT)
    mean = weighted_mean(STEP, [Pass({})] * 3, loras)
    assert mixed.uncond is not None and mean.uncond is not None
    assert torch.allclose(mixed.cond, mean.cond, atol=1e-2) and torch.allclose(mixed.uncond, mean.uncond, atol=1e-2)


def test_guidance_is_recentred() -> None:
    found = predictions(3)
    base = found[0].uncond
    own = loratorio(found, recentring=0.0).uncond
    middle = loratorio(found, recentring=0.25).uncond
    assert base is not None and own is not None and middle is not None
    assert torch.allclose(middle, 0.25 * base + 0.75 * own, atol=1e-6)
    without = [found[0], *(replace(one, uncond=None) for one in found[1:])]
    whole = loratorio(without, recentring=1.0).uncond
    assert whole is not None and torch.equal(whole, base)
    assert loratorio(predictions(3, guided=False)).uncond is None


@pytest.mark.parametrize(
    ("recentring", "rows"), [(0.5, ["same", "same", "same", "same"]), (1.0, ["same"] + ["off"] * 3), (0.0, None)]
)
def test_rows_that_would_not_count_are_not_asked_for(recentring: float, rows: list[str] | None) -> None:
    plan = registry.create("loratorio", {"recentring": recentring}).start(JOB)
    passes = plan.passes(STEP)
    assert [dict(one.adapters) for one in passes] == [{}, {"a": 1.0}, {"b": 1.0}, {"c": 1.0}]
    assert [one.uncond for one in passes] == (rows or ["off", "same", "same", "same"])


def test_the_base_reads_without_loras_when_each_reads_for_itself() -> None:
    plan = registry.create("loratorio", {}).start(replace(JOB, text_policy="per_lora"))
    assert [dict(plan.prompts[one.prompt].adapters) for one in plan.passes(STEP)] == [
        {},
        {"a": 1.0},
        {"b": 1.0},
        {"c": 1.0},
    ]
    assert {one.prompt for one in registry.create("loratorio", {}).start(JOB).passes(STEP)} == {"main"}
