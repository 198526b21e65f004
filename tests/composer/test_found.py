"""Masks from attention, checked by hand and against plain loops: thresholds, resemblance, shares (T23)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from composer.found import Search, Sharing, contested, drawn, over, owned, resembling, shared_out, with_rest
from composer.plan import Attention, Pass, Prediction, Step, weighted_mean


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


def by_hand(maps: list[Tensor]) -> list[list[float]]:
    """n S_c - sum of the others' S, S_c the mean of a concept's maps, each divided by its sum; places in a row."""
    spread: list[list[float]] = []
    for tokens in maps:
        rows = [token.double().flatten().tolist() for token in tokens]
        spread.append([sum(row[place] / sum(row) for row in rows) / len(rows) for place in range(len(rows[0]))])
    others = range(len(maps))
    return [
        [len(maps) * own[place] - sum(spread[o][place] for o in others if o != c) for place in range(len(own))]
        for c, own in enumerate(spread)
    ]


@pytest.mark.parametrize("count", [2, 3])
def test_a_contest_by_hand(count: int) -> None:
    maps = [random(2 + n, 3, 4, seed=n) * 10.0**-n for n in range(count)]  # one is read much less than another
    wanted = torch.tensor(by_hand(maps), dtype=torch.float64).reshape(count, 3, 4)
    assert torch.allclose(contested(maps).double(), wanted, atol=1e-5)
    assert contested([torch.zeros(1, 3, 4), random(1, 3, 4, seed=1)]).isfinite().all()


def test_resemblance_by_hand() -> None:
    maps, features = [random(2, 3, 4, seed=n) * 5 for n in (1, 2)], random(12, 7, seed=3).double()
    found = resembling(contested(maps), features.float() @ features.float().T, 0.25)
    for own, contest in enumerate(by_hand(maps)):
        anchors = sorted(range(12), key=lambda place: -contest[place])[:3]
        wanted = [sum(float(features[a] @ features[place]) for a in anchors) / 3 for place in range(12)]
        assert torch.allclose(found[own].flatten().double(), torch.tensor(wanted).double(), atol=1e-5)


def test_owned_by_what_is_read_or_by_what_is_alike() -> None:
    """A left and a right half; each word is read at one corner of its own, and likeness fills the half."""
    read, rest = torch.full((2, 4, 8), 0.01), torch.full((1, 4, 8), 0.5)
    read[0, 0, 0] = read[1, 3, 7] = 0.4
    side = torch.zeros(4, 8)
    side[:, 4:] = 1.0
    features = torch.stack([1 - side, side], 2).flatten(0, 1)
    told = Attention(torch.cat([rest, read]), {"a": (1,), "b": (2,)}.__getitem__, alike=features @ features.T)
    words = [("a",), ("b",)]
    halves = torch.stack([1 - side, side])
    assert torch.equal(owned(told, words, Search(top=0.0, likeness=True, gravity=0.0)), halves)
    assert torch.equal(owned(told, words, Search(gravity=10.0)).sum(0), torch.ones(4, 8))
    with pytest.raises(ValueError, match="resemble"):
        owned(Attention(told.maps, told.places), words, Search(likeness=True))


def test_gravity_keeps_places_together() -> None:
    """One is read on the left, the other on the right, and each at a stray place on the other's side."""
    scores = torch.zeros(2, 6, 8)
    scores[0, :, :4] = scores[1, :, 4:] = 1.0
    scores[:, 2, 6], scores[:, 3, 1] = torch.tensor([1.0, 0.9]), torch.tensor([0.9, 1.0])
    free, drawn_in = (shared_out(scores, Sharing(gravity=gravity)) for gravity in (0.0, 0.3))
    assert (free[0, 2, 6], free[1, 3, 1]) == (1, 1)
    assert drawn_in[0, :, :4].all() and drawn_in[1, :, 4:].all()


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
    assert int(plain) == 20 and 12 <= int(shared_out(scores, Sharing(gravity=2e-5))[0].sum()) <= 16
