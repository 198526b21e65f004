"""Masks from attention, checked by hand and against plain loops: thresholds, resemblance, shares (T23)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from composer.found import (
    Search,
    Sharing,
    anchors,
    away_from,
    claims,
    contested,
    drawn,
    over,
    owned,
    resembling,
    shared_out,
    smoothed,
    with_rest,
)
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
    contest = contested(maps)
    found = resembling(contest, features.float() @ features.float().T, anchors(contest, 0.25))
    for own, row in enumerate(by_hand(maps)):
        first = sorted(range(12), key=lambda place: -row[place])[:3]
        wanted = [sum(float(features[a] @ features[place]) for a in first) / 3 for place in range(12)]
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


def test_gravity_draws_to_the_anchors_centre() -> None:
    places = torch.tensor([[0, 1, 6], [22, 23, 29]])  # of 5 x 6
    found = away_from(places, 5, 6)
    for concept, row in enumerate(places.tolist()):
        spots = [(-1 + 2 * (place // 6) / 4, -1 + 2 * (place % 6) / 5) for place in row]
        y, x = (sum(one) / 3 for one in zip(*spots, strict=True))
        wanted = [[(-1 + 2 * r / 4 - y) ** 2 + (-1 + 2 * c / 5 - x) ** 2 for c in range(6)] for r in range(5)]
        assert torch.allclose(found[concept], torch.tensor(wanted), atol=1e-5)


def test_gravity_keeps_places_together() -> None:
    """One is read on the left, the other on the right, and each at a stray corner of the other's side."""
    maps = torch.full((2, 6, 8), 0.1)
    maps[0, :, :4] = maps[1, :, 4:] = 1.0
    maps[0, 1:4, 1:3] = maps[1, 1:4, 5:7] = 2.0
    maps[:, 4:, 6:] = torch.tensor([1.0, 0.1])[:, None, None]
    maps[:, 4:, :2] = torch.tensor([0.1, 1.0])[:, None, None]
    told = Attention(maps, {"a": (0,), "b": (1,)}.__getitem__)
    free, drawn_in = (owned(told, [("a",), ("b",)], Search(gravity=gravity)) for gravity in (0.0, 1.0))
    assert free[0, 5, 7] == free[1, 5, 0] == 1
    assert drawn_in[0, :, :4].all() and drawn_in[1, :, 4:].all()


def test_smoothing_by_hand() -> None:
    """A Gaussian of 0.85 cells over 3x3, mirrored: a neighbour counts half as much, but for rounding."""
    image = random(1, 4, 5, seed=3)
    line = [0.5005, 1.0, 0.5005]
    for y in range(4):
        for x in range(5):
            wanted = (
                sum(
                    line[dy + 1]
                    * line[dx + 1]
                    * float(
                        image[
                            0,
                            2 * 3 - abs(y + dy) if abs(y + dy) > 3 else abs(y + dy),
                            2 * 4 - abs(x + dx) if abs(x + dx) > 4 else abs(x + dx),
                        ]
                    )
                    for dy in (-1, 0, 1)
                    for dx in (-1, 0, 1)
                )
                / sum(line) ** 2
            )
            assert float(smoothed(image)[0, y, x]) == pytest.approx(wanted, abs=1e-3)


def test_claims_are_parted() -> None:
    """Both words of a concept are near each other; one of another is read everywhere, more where it is."""
    left, right = torch.full((2, 6, 8), 0.01), torch.full((2, 6, 8), 0.01)
    left[:, 2:4, 1:3] = torch.tensor([0.9, 0.5])[:, None, None]
    right[0, 2:4, 5:7], right[1] = 0.8, 0.4
    authors = claims([left, right], 0.3, parted=False)
    assert authors[1].all() and int(authors[0].sum()) == 4  # overlap
    one, other = claims([left, right], 0.3, parted=True)
    assert float((one * other).max()) == 0.0 and set(torch.cat([one, other]).unique().tolist()) == {0.0, 1.0}
    assert one[1:5, :4].all() and not one[:, 5:].any()  # a cell wider, at least
    assert other[2:4, 5:7].all() and not other[2:4, 1:3].any()
    assert float(claims([left], 0.3, parted=True)[0].sum()) >= 16


def between(values: list[float]) -> list[float]:
    return [(value - min(values)) / (max(values) - min(values) + 1e-8) for value in values]


def shares_by_hand(scores: list[list[float]], height: int, width: int, how: Sharing) -> list[int]:
    """Return whose each place is, places in a row: the authors' rounds as they are meant, cell by cell."""
    count, cells = len(scores), range(height * width)
    everything = [value for row in scores for value in row]
    step = how.rate * max(max(everything) - min(everything), 1e-4)
    held, smooth, now = [0.0] * count, [between(row) for row in scores], [list(row) for row in scores]
    for turn in range(how.rounds):
        fresh = [between([now[n][c] for n in range(count)]) for c in cells]
        smooth = [[(1 - how.momentum) * fresh[c][n] + how.momentum * smooth[n][c] for c in cells] for n in range(count)]
        taken = [max(range(count), key=lambda n, c=c: now[n][c]) for c in cells]
        following = list[list[float]]()
        for n, own in enumerate(smooth):
            surplus = taken.count(n) - height * width / count
            held[n] += (surplus > 0) * step * how.slowing**turn - (surplus < 0) * step * how.slowing**turn
            row = list[float]()
            for c in cells:
                near = [
                    own[c + dy * width + dx] / 8
                    for dy in (-1, 0, 1)
                    for dx in (-1, 0, 1)
                    if (dy or dx) and 0 <= c // width + dy < height and 0 <= c % width + dx < width
                ]
                row.append(scores[n][c] - held[n] + how.votes * sum(near))
            following.append(row)
        now = following
    return [max(range(count), key=lambda n, c=c: now[n][c]) for c in cells]


@pytest.mark.parametrize("how", [Sharing(), Sharing(rounds=4, rate=0.05, votes=0.3)])
@pytest.mark.parametrize("count", [2, 3])
def test_shares_by_hand(count: int, how: Sharing) -> None:
    scores = random(count, 5, 7, seed=11 + count)
    wanted = shares_by_hand(scores.double().flatten(1).tolist(), 5, 7, how)
    assert shared_out(scores, how).argmax(0).flatten().tolist() == wanted
    assert shared_out(scores, replace(how, votes=0.0, rate=0.0)).argmax(0).equal(scores.argmax(0))


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
