"""The exact sums, truncation, and what is linear in the members: T15, T17, T21."""

from __future__ import annotations

import json
import math

import pytest
import torch

from composer.merges.cat import cat
from composer.merges.common import RECIPE, Weighted
from composer.merges.linear import linear
from composer.merges.nplora import nplora
from composer.merges.svd import ENERGY, svd, truncated
from lora_zoo.adapter import DenseDelta, LowRank
from tests.composer.merges.small import SHAPES, adapter, close, deltas, members, pair, q, wide

LAYERS = [(component, path) for component, paths in SHAPES.items() for path in paths]


@pytest.mark.parametrize(("component", "path"), LAYERS)
def test_linear_and_cat_are_the_sum(component: str, path: str) -> None:
    wanted = sum(deltas(members(), component, path), torch.zeros(()))
    for merge in (linear, cat):
        assert close(merge(members()).component(component)[path].dense().flatten(1), wanted)
    mean = linear(members(), "mean").component(component)[path].dense().flatten(1)
    assert close(mean, wanted / 3)


def test_linear_by_hand() -> None:
    merged = linear(pair(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[8.0, 0.0], [-2.0, 4.0]]), (2.0, -0.5)))
    assert q(merged).tolist() == [[-2.0, 4.0], [7.0, 6.0]]


def test_cat_puts_factors_side_by_side() -> None:
    first = LowRank(torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0], [0.0]]))
    second = LowRank(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0], [3.0]]))
    some = [Weighted(adapter("a", {"q": first}), 4.0), Weighted(adapter("b", {"q": second}), -9.0)]
    found = cat(some).component("unet")["q"]
    assert isinstance(found, LowRank)
    assert found.down.tolist() == [[2.0, 0.0], [0.0, 3.0]]
    assert found.up.tolist() == [[4.0, 0.0], [0.0, -9.0]]
    ranks = {path: delta.rank for path, delta in cat(members()).component("unet").items() if isinstance(delta, LowRank)}
    assert ranks == {"q": 6, "k": 2, "conv": 6}


@pytest.mark.parametrize(("component", "path"), LAYERS)
def test_svd_is_the_best_of_its_rank(component: str, path: str) -> None:
    """T15, and the truncated decomposition of the sum multiplied out."""
    total = sum(deltas(members(), component, path), torch.zeros(()))
    u, s, vh = torch.linalg.svd(total)
    for rank in (1, 2, 4, 100):
        keep = min(rank, len(s))
        wanted = u[:, :keep] @ torch.diag(s[:keep]) @ vh[:keep]
        found = svd(members(), rank).component(component)[path]
        assert isinstance(found, LowRank) and found.rank <= min(rank, 6)
        assert close(found.dense().flatten(1), wanted)


def test_svd_takes_the_greatest_rank_by_itself() -> None:
    found = svd(members()).component("unet")
    assert {p: d.rank for p, d in found.items() if isinstance(d, LowRank)} == {"q": 3, "k": 2, "conv": 3}
    one = svd(members()[:1]).component("unet")["q"]
    assert isinstance(one, LowRank) and one.rank == 2


def test_energy_kept() -> None:
    """Singular values 4, 2, 1: ranks 1, 2, 3 keep 16, 20 and 21 of 21."""
    some = pair(torch.diag(torch.tensor([4.0, 0.0, 0.0])), torch.diag(torch.tensor([0.0, 2.0, 1.0])))
    assert [svd(some, rank).metadata[ENERGY] for rank in (1, 2, 3)] == ["0.761905", "0.952381", "1.000000"]
    whole, low = DenseDelta(torch.diag(torch.tensor([4.0, 2.0, 1.0]))), members()[0].adapter.component("unet")["q"]
    cut, kept = truncated({"unet": {"a": whole, "q": low}}, lambda component, path: 2)
    assert cut["unet"]["q"] is low and cut["unet"]["a"].rank == 2
    norm = float(low.dense().square().sum())
    assert kept == pytest.approx((20 + norm) / (21 + norm), rel=1e-6)
    assert truncated({"unet": {"a": DenseDelta(torch.zeros(3, 3))}}, lambda component, path: 2)[1] == 1.0


def test_the_recipe_can_be_read() -> None:
    recipe = json.loads(svd(members(), 2).metadata[RECIPE])
    assert (recipe["method"], recipe["parameters"]) == ("svd", {"rank": 2})
    assert [(one["name"], one["weight"]) for one in recipe["members"]] == [
        ("first", 1.0),
        ("second", 0.5),
        ("third", -0.8),
    ]


@pytest.mark.parametrize("protected", ["first", "last"])
@pytest.mark.parametrize(("mu", "k"), [(0.5, 8), (0.5, 1), (3.0, 2), (math.inf, 2)])
def test_nplora_is_its_formula(mu: float, k: int, protected: str) -> None:
    for component, path in LAYERS:
        some = deltas(members(), component, path)
        style = some.pop(0 if protected == "first" else -1)
        rows = torch.linalg.svd(style)[2][: min(k, int(torch.linalg.matrix_rank(style)))]
        share = 1.0 if math.isinf(mu) else mu / (1 + mu)
        projection = torch.eye(style.shape[1], dtype=torch.float64) - share * rows.T @ rows
        wanted = style + sum((one @ projection for one in some), torch.zeros(()))
        found = nplora(members(), mu, k, "first" if protected == "first" else "last")
        assert close(found.component(component)[path].dense().flatten(1), wanted)


def test_nplora_at_its_limits() -> None:
    """T21."""
    plain = wide(cat(members()))
    for off in (nplora(members(), mu=0.0), nplora(members(), k=0)):
        assert all(close(delta, plain[key], 1e-6) for key, delta in wide(off).items())
    content, style = members()[:2]
    hard = nplora([content, style], mu=math.inf)
    left = q(hard) - style.weight * q(style.adapter)
    rows = torch.linalg.svd(q(style.adapter))[2][:3]
    assert close(left @ rows.T, torch.zeros(6, 3).double(), 1e-5)
    assert left.abs().max() > 0.1
    gone = [content, Weighted(style.adapter, 0.0)]
    assert close(q(nplora(gone)), q(content.adapter))


def test_nplora_by_hand() -> None:
    """The style reads the first input only, so with mu = 1 the content's first column is halved."""
    style = torch.zeros(4, 4)
    style[2, 0] = 3.0
    content = torch.arange(16.0).reshape(4, 4)
    wanted = content.clone()
    wanted[:, 0] *= 0.5
    wanted[2, 0] += 3.0
    assert close(q(nplora(pair(content, style), mu=1.0, k=1)), wanted)
