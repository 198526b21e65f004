"""Masks from attention, checked by hand and against plain loops: thresholds, resemblance, shares (T23)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from composer.found import Sharing, drawn, over, resembling, shared_out, with_rest
from composer.plan import Pass, Prediction, Step, weighted_mean


def random(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_over_a_share_of_the_most() -> None:
    maps = torch.tensor([[[0.1, 0.4], [1.0, 0.3]], [[0.02, 0.0], [0.0, 0.01]]])
    assert over(maps, 0.3).tolist() == [[1, 1], [1, 1]]  # of the second map, 0.02 and 0.01 are over 0.006
    assert over(maps[:1], 0.3).tolist() == [[0, 1], [1, 0]]  # 0.3 itself is not over it
    assert over(torch.zeros(1, 2, 2), 0.3).sum() == 0


def test_the_rest_is_where_none_is() -> None:
    masks = with_rest([torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]])], 2, 4)
    assert masks.tolist() == [[[0, 0, 1, 1]] * 2, [[1, 1, 0, 0]] * 2, [[1, 1, 0, 0]] * 2]


@pytest.mark.parametrize("guided", [True, False])
def test_fusion_weights_sum_to_one(guided: bool) -> None:
    masks = with_rest([(random(4, 4, seed=n) > 0.5).float() for n in range(3)], 8, 8)
    passes = [Pass({}, mask=drawn(mask)) for mask in masks]
    ones = [Prediction(torch.ones(1, 2, 8, 8), torch.ones(1, 2, 8, 8) if guided else None) for _ in passes]
    mixed = weighted_mean(Step(0, 1, 0.0, 0.0), passes, ones)
    assert torch.allclose(mixed.cond, ones[0].cond, atol=1e-6)
    tiles = [torch.zeros(8, 8) for _ in range(3)]
    for place, tile in enumerate(tiles):
        tile[:, 3 * place : 3 * place + 3] = 1.0
    answers = [Prediction(random(1, 2, 8, 8, seed=n)) for n in range(3)]
    parted = weighted_mean(Step(0, 1, 0.0, 0.0), [Pass({}, mask=drawn(tile)) for tile in tiles], answers)
    wanted = sum(tile * answer.cond for tile, answer in zip(tiles, answers, strict=True))
    assert torch.allclose(parted.cond, torch.as_tensor(wanted), atol=1e-6)


def test_a_mask_is_a_value() -> None:
    mask = (random(4, 6, seed=1) > 0.5).float()
    assert torch.equal(drawn(mask).at(4, 6), mask) and drawn(mask) == drawn(mask.clone())


def test_resemblance_by_hand() -> None:
    maps, features = [random(2, 3, 4, seed=n) * 5 for n in (1, 2)], random(12, 7, seed=3).double()
    found = resembling(maps, features.float() @ features.float().T, 0.25)
    spread = [one.double().mean(0).flatten().softmax(0) for one in maps]
    for own, (mine, other) in enumerate(((0, 1), (1, 0))):
        contest = [(2 * spread[mine][place] - spread[other][place]).item() for place in range(12)]
        anchors = sorted(range(12), key=lambda place: -contest[place])[:3]
        likeness = [sum(float(features[a] @ features[place]) for a in anchors) / 3 for place in range(12)]
        wanted = [(one - min(likeness)) / (max(likeness) - min(likeness)) for one in likeness]
        assert torch.allclose(found[own].flatten().double(), torch.tensor(wanted).double(), atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_shares_are_disjoint_and_cover_all(count: int) -> None:
    masks = shared_out(random(count, 6, 8, seed=count), Sharing())
    assert torch.equal(masks.sum(0), torch.ones(6, 8)) and set(masks.unique().tolist()) <= {0.0, 1.0}


def test_a_clear_case_and_one_that_takes_too_much() -> None:
    left = torch.zeros(4, 8)
    left[:, :4] = 1.0
    assert torch.equal(shared_out(torch.stack([left, 1 - left]), Sharing()), torch.stack([left, 1 - left]))
    slope = torch.linspace(0, 1, 8).expand(4, 8)
    scores = torch.stack([slope + 0.1, 1 - slope - 0.1])  # the first is ahead in five of eight columns
    plain = (scores.argmax(0) == 0).sum()
    assert int(plain) == 20 and 12 <= int(shared_out(scores, Sharing())[0].sum()) <= 16
