"""How predictions are blended."""

from __future__ import annotations

import pytest
import torch

from composer.masks import Box
from composer.plan import Pass, Prediction, Step, weighted_mean
from pipelines.guidance import guide

STEP = Step(5, 20, 700.0, 2.0)


def prediction(cond: float, uncond: float | None = None) -> Prediction:
    return Prediction(torch.full((1, 1, 1, 2), cond), None if uncond is None else torch.full((1, 1, 1, 2), uncond))


def test_progress() -> None:
    assert STEP.progress == 0.25


def test_equal_shares_are_the_mean_on_each_branch() -> None:
    mixed = weighted_mean(STEP, [Pass({}), Pass({})], [prediction(1.0, 5.0), prediction(3.0, 7.0)])
    assert mixed.cond.tolist() == [[[[2.0, 2.0]]]]
    assert mixed.uncond is not None and mixed.uncond.tolist() == [[[[6.0, 6.0]]]]


def test_shares_weigh() -> None:
    passes = [Pass({}, share=3.0), Pass({}, share=1.0)]
    assert weighted_mean(STEP, passes, [prediction(4.0), prediction(8.0)]).cond[0, 0, 0, 0] == 5.0
    assert weighted_mean(STEP, passes, [prediction(4.0), prediction(8.0)]).uncond is None


def test_a_share_of_one_is_that_pass_alone() -> None:
    passes = [Pass({}, share=0.0), Pass({}, share=1.0), Pass({}, share=0.0)]
    mixed = weighted_mean(STEP, passes, [prediction(1.0, 2.0), prediction(5.0, 7.0), prediction(9.0, 4.0)])
    assert mixed.uncond is not None
    assert (mixed.cond[0, 0, 0, 0], mixed.uncond[0, 0, 0, 0]) == (5.0, 7.0)


def test_unconditional_rows_are_blended_among_those_that_have_one() -> None:
    passes = [Pass({}, share=1.0), Pass({}, share=3.0, uncond="off"), Pass({}, share=1.0)]
    mixed = weighted_mean(STEP, passes, [prediction(5.0, 2.0), prediction(10.0), prediction(0.0, 6.0)])
    assert mixed.uncond is not None
    assert (mixed.cond[0, 0, 0, 0], mixed.uncond[0, 0, 0, 0]) == (7.0, 4.0)


@pytest.mark.parametrize("scale", [1.0, 4.0, 7.5])
def test_guidance_may_come_before_the_blend_or_after(scale: float) -> None:
    passes = [Pass({}, share=share) for share in (0.5, 0.3, 1.2)]
    tensors = torch.randn(3, 2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = [Prediction(cond, uncond) for cond, uncond in tensors]
    after = guide(weighted_mean(STEP, passes, found), scale, 0.0)
    before = weighted_mean(STEP, passes, [Prediction(guide(one, scale, 0.0)) for one in found]).cond
    assert torch.allclose(after, before, atol=1e-10)


def test_a_single_pass_is_left_as_it_is() -> None:
    only = prediction(1.0)
    assert weighted_mean(STEP, [Pass({}, share=0.1)], [only]) is only


def test_masks_decide_at_each_place() -> None:
    left, right = Box(0.0, 0.0, 0.5, 1.0), Box(0.25, 0.0, 1.0, 1.0)
    passes = [Pass({}, mask=left, share=3.0), Pass({}, mask=right)]
    mixed = weighted_mean(STEP, passes, [prediction(4.0, 1.0), prediction(8.0, 2.0)])
    assert mixed.cond.tolist() == [[[[pytest.approx((3 * 4 + 0.5 * 8) / 3.5), 8.0]]]]
    assert mixed.uncond is not None and mixed.uncond[0, 0, 0, 1] == 2.0


def test_a_pass_without_a_mask_takes_part_everywhere() -> None:
    passes = [Pass({}), Pass({}, mask=Box(0.5, 0.0, 1.0, 1.0))]
    mixed = weighted_mean(STEP, passes, [prediction(2.0), prediction(4.0)])
    assert mixed.cond.tolist() == [[[[2.0, 3.0]]]] and mixed.uncond is None
