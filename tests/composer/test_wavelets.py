"""The Haar transform, checked by hand; and MultLFG's blend on small predictions."""

from __future__ import annotations

from math import exp

import pytest
import torch
from pydantic import JsonValue
from torch import Tensor

from composer import registry
from composer.plan import Job, JobAdapter, Pass, Prediction, Step, weighted_mean
from composer.wavelets import analyse, band_weights, synthesise

JOB = Job(tuple(JobAdapter(name, 1.0, 1.0) for name in "abc"), "a cat", "", "all", 4, 5, 7)
STEPS = [Step(index, 4, 700.0, 2.0) for index in range(4)]


def drawn(seed: int, height: int = 5, width: int = 7) -> Tensor:
    return torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(seed))


def predictions(seed: int, count: int = 3) -> list[Prediction]:
    return [Prediction(drawn(seed + 2 * n), drawn(seed + 2 * n + 1)) for n in range(count)]


def multlfg(answers: list[list[Prediction]], **parameters: JsonValue) -> list[Prediction]:
    plan = registry.create("multlfg", parameters).start(JOB)
    return [plan.combine(step, plan.passes(step), found) for step, found in zip(STEPS, answers, strict=False)]


def close(one: Prediction, other: Prediction, tolerance: float = 1e-5) -> bool:
    assert one.uncond is not None and other.uncond is not None
    return torch.allclose(one.cond, other.cond, atol=tolerance) and torch.allclose(
        one.uncond, other.uncond, atol=tolerance
    )


def test_bands_by_hand() -> None:
    across, down, both, rest = analyse([torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])], 1)
    assert [float(band) for band in (across, down, both, rest)] == [-2.0, -3.0, 1.0, 6.0]


@pytest.mark.parametrize("levels", [1, 2, 3, 6])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 7), (1, 3), (16, 6)])
def test_there_and_back(height: int, width: int, levels: int) -> None:
    images = [drawn(n, height, width) for n in range(2)]
    bands = analyse(images, levels)
    assert len(bands) == 3 * levels + 1
    assert torch.allclose(synthesise(bands, height, width), torch.cat(images), atol=1e-6)


def test_the_transform_keeps_lengths_and_is_linear() -> None:
    one, other = drawn(0, 8, 8), drawn(1, 8, 8)
    bands = analyse([one, other, 2.0 * one - other], 2)
    assert sum(float(band[0].square().sum()) for band in bands) == pytest.approx(float(one.square().sum()), rel=1e-5)
    assert all(torch.allclose(band[2], 2.0 * band[0] - band[1], atol=1e-5) for band in bands)


def test_weights_by_hand() -> None:
    before = [torch.zeros(2, 1, 1, 2)]
    now = [torch.tensor([[[[3.0, 4.0]]], [[[0.0, 15.0]]]])]  # moved 5 and 15, over their mean 0.5 and 1.5
    weights = band_weights(now, before, 0.5, 0)[0]
    assert weights.flatten().tolist() == pytest.approx([1 / (1 + exp(2)), exp(2) / (1 + exp(2))])
    assert band_weights(now, before, 0.5, 1)[0].flatten().tolist() == [0.0, 1.0]
    assert band_weights(now, now, 0.5, 0)[0].flatten().tolist() == [0.5, 0.5]
    assert band_weights(now, None, 0.5, 1)[0].flatten().tolist() == [0.5, 0.5]


def test_equal_weights_are_composite() -> None:
    answers = [predictions(10 * n) for n in range(3)]
    means = [weighted_mean(step, [Pass({})] * 3, found) for step, found in zip(STEPS, answers, strict=False)]
    hot = multlfg(answers, temperature=1000.0, levels=2)
    assert all(close(one, other, 1e-2) for one, other in zip(hot, means, strict=True))
    assert close(multlfg(answers, temperature=0.1)[0], means[0])
    assert not close(multlfg(answers, temperature=0.1)[1], means[1], 1e-2)


def test_identical_loras_are_one() -> None:
    answers = [[predictions(10 * n, 1)[0]] * 3 for n in range(3)]
    for found, wanted in zip(multlfg(answers, temperature=0.01), answers, strict=True):
        assert close(found, wanted[0])


def test_the_one_that_moves_in_a_band_gives_it() -> None:
    still, flat = predictions(0)[0], torch.ones(1, 4, 5, 7)
    checks = torch.tensor([[1.0, -1.0] * 4]).repeat(5, 1)[:, :7].expand(1, 4, 5, 7)
    first = [still, still, still]
    second = [Prediction(still.cond + flat, still.uncond), Prediction(still.cond + checks, still.uncond), still]
    cold = multlfg([first, second], temperature=0.0001)[1]
    bands, wanted = (analyse([one], 1) for one in (cold.cond, still.cond))
    moved = [analyse([one.cond], 1) for one in second]
    assert torch.allclose(bands[3], moved[0][3], atol=1e-5)  # the rest, of the one that grew lighter
    assert torch.allclose(bands[0][..., :-1], moved[1][0][..., :-1], atol=1e-5)  # the last column is half padding
    assert not torch.allclose(bands[0], wanted[0], atol=0.1)


def test_a_plan_remembers_only_its_own_last_step() -> None:
    answers = [predictions(10 * n) for n in range(3)]
    plan = registry.create("multlfg", {"temperature": 0.1}).start(JOB)
    other = registry.create("multlfg", {"temperature": 0.1}).start(JOB)
    passes = plan.passes(STEPS[0])
    first = plan.combine(STEPS[0], passes, answers[0])
    assert close(first, other.combine(STEPS[0], passes, answers[0]))
    jumped = plan.combine(STEPS[2], passes, answers[2])
    assert close(jumped, weighted_mean(STEPS[2], passes, answers[2]))
    assert not close(plan.combine(STEPS[3], passes, answers[0]), first, 1e-2)


def test_without_guidance() -> None:
    answers = [[Prediction(one.cond) for one in predictions(10 * n)] for n in range(2)]
    assert multlfg(answers)[1].uncond is None
