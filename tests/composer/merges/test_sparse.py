"""Merges that drop entries: magnitude pruning, TIES, DARE: T16."""

from __future__ import annotations

import pytest
import torch

from composer.merges.cat import cat
from composer.merges.common import Weighted
from composer.merges.dare import dare, dare_ties
from composer.merges.knots import knots
from composer.merges.magnitude import magnitude, prune
from composer.merges.ties import Election, ties
from lora_zoo.adapter import LowRank
from tests.composer.merges.small import SHAPES, close, copies, deltas, low_rank, members, pair, q, wide

LAYERS = [(component, path) for component, paths in SHAPES.items() for path in paths]

FIRST = torch.tensor(
    [[9.0, -1.0, 2.0, 8.0], [0.5, -7.0, 0.1, 0.2], [6.0, 0.3, -0.4, 5.0], [0.0, 0.6, 0.7, -10.0]],
)
SECOND = torch.tensor(
    [[3.0, 0.1, -0.2, -9.0], [0.3, -5.0, 0.4, 0.5], [-8.0, 0.6, 0.7, 7.0], [0.8, 4.0, -0.9, 0.0]],
)


def kept(delta: torch.Tensor, density: float) -> torch.Tensor:
    """Prune by sorting, as a check."""
    count = round(density * delta.numel())
    order = delta.abs().flatten().argsort(descending=True)[:count]
    mask = torch.zeros(delta.numel(), dtype=torch.bool)
    mask[order] = True
    return delta * mask.reshape(delta.shape)


def elected(some: list[torch.Tensor], elect: Election) -> torch.Tensor:
    """TIES entry by entry, in plain Python."""
    merged = torch.zeros(some[0].shape, dtype=torch.float64)
    for place in range(merged.numel()):
        entries = [float(one.flatten()[place]) for one in some]
        votes = [(x > 0) - (x < 0) for x in entries] if elect == "frequency" else entries
        sign = 1 if sum(votes) >= 0 else -1
        agree = [x for x in entries if x * sign > 0]
        merged.view(-1)[place] = sum(agree) / max(1, len(agree))
    return merged


def test_prune_by_hand() -> None:
    assert prune(FIRST, 0.375).tolist() == [
        [9.0, 0.0, 0.0, 8.0],
        [0.0, -7.0, 0.0, 0.0],
        [6.0, 0.0, 0.0, 5.0],
        [0.0, 0.0, 0.0, -10.0],
    ]
    assert prune(FIRST, 0.0).count_nonzero() == 0
    assert prune(FIRST, 1e-9).count_nonzero() == 1
    assert torch.equal(prune(FIRST, 1.0), FIRST)
    assert prune(torch.tensor([[1.0, -1.0], [0.5, 1.0]]), 0.25).tolist() == [[1.0, -1.0], [0.0, 1.0]]


def test_ties_by_hand() -> None:
    """Trimmed to six entries each; they meet in five places, and two of those disagree."""
    assert close(
        q(ties(pair(FIRST, SECOND), 0.375)),
        torch.tensor([[6.0, 0.0, 0.0, -9.0], [0.0, -6.0, 0.0, 0.0], [-8.0, 0.0, 0.0, 6.0], [0.0, 4.0, 0.0, -10.0]]),
        1e-6,
    )


def test_an_entry_without_majority_is_positive() -> None:
    one = torch.tensor([[2.0, 2.0]])
    assert q(ties(pair(one, torch.tensor([[-2.0, -3.0]])), 1.0)).tolist() == [[2.0, -3.0]]
    assert q(ties(pair(one, torch.tensor([[-2.0, -3.0]])), 1.0, "frequency")).tolist() == [[2.0, 2.0]]


@pytest.mark.parametrize("elect", ["total", "frequency"])
@pytest.mark.parametrize("density", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize(("component", "path"), LAYERS)
def test_ties_and_magnitude_are_their_formulas(component: str, path: str, density: float, elect: Election) -> None:
    trimmed = [kept(one, density) for one in deltas(members(), component, path)]
    found = ties(members(), density, elect, 1.5).component(component)[path].dense().flatten(1)
    assert close(found, 1.5 * elected(trimmed, elect))
    summed = magnitude(members(), density).component(component)[path].dense().flatten(1)
    assert close(summed, sum(trimmed, torch.zeros(())))


def test_density_one_reduces() -> None:
    """T16: pruning and thinning by nothing are the sum; TIES of signs that agree is the weighted mean."""
    total = wide(cat(members()))
    for merged in (magnitude(members(), 1.0), dare(members(), 1.0), dare(members(), 1.0, rescale=False)):
        assert all(close(delta, total[key]) for key, delta in wide(merged).items())
    agree = pair(FIRST.abs() + 0.1, SECOND.abs() + 0.1, (0.5, 2.0))
    mean = (0.5 * (FIRST.abs() + 0.1) + 2.0 * (SECOND.abs() + 0.1)) / 2
    assert close(q(ties(agree, 1.0)), mean)
    assert close(q(dare_ties(agree, 1.0)), mean)
    assert all(close(d, wide(dare_ties(members(), 1.0))[k]) for k, d in wide(ties(members(), 1.0)).items())


def test_density_zero_is_nothing() -> None:
    for merged in (magnitude(members(), 0.0), ties(members(), 0.0), dare(members(), 0.0), dare_ties(members(), 0.0)):
        assert all(delta.count_nonzero() == 0 for delta in wide(merged).values())


def test_dare_is_unbiased() -> None:
    """T16: the mean over 2000 seeds lies within three standard errors."""
    some = pair(FIRST, SECOND, (1.0, 0.5))
    density, count = 0.3, 2000
    mean = torch.stack([q(dare(some, density, seed)) for seed in range(count)]).mean(0)
    variance = (FIRST.double() ** 2 + (0.5 * SECOND.double()) ** 2) * (1 - density) / density / count
    error = mean - (FIRST + 0.5 * SECOND)
    assert abs(float(error.sum())) <= 3 * float(variance.sum()) ** 0.5
    score = (error / variance.clamp(min=1e-12).sqrt())[variance > 0]
    assert float(score.square().mean()) < 2.0


def test_dare_drops_and_rescales() -> None:
    some = pair(FIRST + 20, torch.zeros(4, 4))
    kept_ones = q(dare(some, 0.5, 1, rescale=False))
    assert set(torch.unique(kept_ones / (FIRST + 20).double()).tolist()) == {0.0, 1.0}
    assert close(q(dare(some, 0.5, 1)), 2 * kept_ones)
    assert not close(q(dare(some, 0.5, 2)), 2 * kept_ones)


def test_a_draw_depends_on_the_member_alone() -> None:
    """The same LoRA loses the same entries in any company; different layers lose different ones."""
    first, second, third = members()
    alone = wide(dare([first, Weighted(third.adapter, 1e-12)], 0.5, 7))
    among = wide(dare([second, first], 0.5, 7))
    rest = wide(dare([second, Weighted(third.adapter, 1e-12)], 0.5, 7))
    assert close(among["unet.q"] - rest["unet.q"], alone["unet.q"])


def test_dare_ties_is_ties_of_thinned_deltas() -> None:
    some = pair(FIRST, SECOND, (1.0, -0.5))
    zeros = torch.zeros(4, 4)
    thinned = [q(dare([some[0], *pair(zeros, zeros)[1:]], 0.5, 5)), q(dare([*pair(zeros, zeros)[:1], some[1]], 0.5, 5))]
    for elect in ("total", "frequency"):
        assert close(q(dare_ties(some, 0.5, 5, elect, 0.7)), 0.7 * elected(thinned, elect))


@pytest.mark.parametrize("elect", ["total", "frequency"])
@pytest.mark.parametrize("density", [0.3, 1.0])
@pytest.mark.parametrize(("component", "path"), LAYERS)
def test_knots_is_its_formula(component: str, path: str, density: float, elect: Election) -> None:
    """Singular vectors come with either sign; the one with a positive greatest entry of u is meant."""
    some = [one for one in deltas(members(), component, path) if one.any()]
    u, s, vh = torch.linalg.svd(torch.cat(some, 1), full_matrices=False)
    rank = int((s > 1e-9 * s[0]).sum())
    signs = torch.stack([column[column.abs().argmax()].sign() for column in u.T])
    u, vh = u * signs, vh * signs[:, None]
    blocks = [kept(v, density) for v in vh[:rank].split(some[0].shape[1], 1)]
    wanted = u[:, :rank] @ torch.diag(s[:rank]) @ elected(blocks, elect) * 1.2
    assert close(knots(members(), density, elect, 1.2).component(component)[path].dense().flatten(1), wanted)


def test_knots_of_copies_is_one_of_them() -> None:
    delta = low_rank((6, 5), 2, 4)
    found = knots(copies(delta, 3), 1.0).component("unet")["q"]
    assert close(found.dense(), delta.dense())
    assert isinstance(found, LowRank) and found.rank == 2


def test_knots_of_members_without_a_common_direction() -> None:
    """Each has a direction of its own, so that nothing is averaged and the merge is the sum."""
    first, second = torch.zeros(4, 4), torch.zeros(4, 4)
    first[0, :2], second[2, 2:] = torch.tensor([3.0, 4.0]), torch.tensor([1.0, -1.0])
    assert close(q(knots(pair(first, second), 1.0)), first + second)
