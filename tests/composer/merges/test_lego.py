"""LoRA-LEGO: units, clusters and their centres."""

from __future__ import annotations

import pytest
import torch

from composer.merges.cat import cat
from composer.merges.common import Weighted
from composer.merges.lego import lego
from lora_zoo.adapter import LowRank
from tests.composer.merges.small import adapter, close, copies, low_rank, members, q, wide


def unit(a: list[float], b: list[float]) -> LowRank:
    return LowRank(torch.tensor([a]), torch.tensor([b]).T)


def test_every_unit_its_own_cluster_is_the_sum() -> None:
    total = wide(cat(members()))
    assert all(close(delta, total[key]) for key, delta in wide(lego(members(), 100, reweight=False)).items())


def test_copies_are_found_to_be_one() -> None:
    delta = low_rank((6, 5), 3, 8)
    for rank in (0, 3, 7):
        assert close(q(lego(copies(delta, 3), rank)), delta.dense())


def test_signs_and_bases_of_factors_do_not_matter() -> None:
    delta = low_rank((6, 5), 3, 8)
    basis = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0] @ torch.diag(
        torch.tensor([-2.0, 0.5, 1.0])
    )
    turned = LowRank(torch.linalg.inv(basis) @ delta.down, delta.up @ basis)
    swapped = LowRank(delta.down[[2, 0, 1]], delta.up[:, [2, 0, 1]])
    third = members()[2]
    wanted = q(lego([Weighted(adapter("x", {"q": delta}), 1.0), third], 2))
    for other in (turned, swapped, LowRank(-delta.down, -delta.up)):
        assert close(q(lego([Weighted(adapter("x", {"q": other}), 1.0), third], 2)), wanted)


def test_two_clusters_by_hand() -> None:
    """Two units along the first axes, of products 1 and 4, share a cluster; a third, on its own, keeps its product.

    Units of the pair: a = b = 1 and 2 along their axes. Their mean 1.5 has the members' mean norm already, so the
    merged entry is 2.25. With output reweighting the greatest rank, 1, over two clusters gives 1 / sqrt(2).
    """
    first, second = unit([1.0, 0, 0, 0], [1.0, 0, 0, 0]), unit([-2.0, 0, 0, 0], [-2.0, 0, 0, 0])
    third = unit([0, 0, 0, 5.0], [0, 0, 0, -5.0])
    some = [Weighted(adapter(str(n), {"q": one}), 1.0) for n, one in enumerate((first, second, third))]
    wanted = torch.zeros(4, 4)
    wanted[0, 0], wanted[3, 3] = 2.25, -25.0
    assert close(q(lego(some, 2, reweight=False)), wanted)
    assert close(q(lego(some, 2)), wanted / 2**0.5)


def test_centres_regain_their_members_norm() -> None:
    """Units [1, 0] and [0.8, 0.6] on both sides have norm sqrt(2) each; so has the centre of their cluster."""
    first, second = unit([1.0, 0.0], [1.0, 0.0]), unit([0.8, 0.6], [0.8, 0.6])
    some = [Weighted(adapter(str(n), {"q": one}), 1.0) for n, one in enumerate((first, second))]
    found = q(lego(some, 1))
    assert float(torch.linalg.matrix_norm(found)) == pytest.approx(1.0, rel=1e-6)
    direction = torch.tensor([1.8, 0.6], dtype=torch.float64)
    direction = direction / direction.norm()
    assert close(found, torch.outer(direction, direction))


def test_the_rank_is_the_number_of_clusters() -> None:
    for rank in (1, 2, 4):
        found = lego(members(), rank).component("unet")["conv"]
        assert isinstance(found, LowRank) and found.rank == rank
    zero = copies(LowRank(torch.zeros(2, 5), torch.zeros(6, 2)), 2)
    assert q(lego(zero, 2)).count_nonzero() == 0
