"""LoRA Soups and ZipLoRA: coefficients given, and coefficients fitted to what members react to: T17."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from composer.merges.cat import cat
from composer.merges.common import Weighted
from composer.merges.interference import Interference
from composer.merges.lora_soups import layer_weights, lora_soups
from composer.merges.ziplora import columns, ziplora
from lora_zoo.adapter import LowRank
from tests.composer.merges.small import SHAPES, adapter, close, copies, deltas, low_rank, members, pair, q, wide

LAYERS = [(component, path) for component, paths in SHAPES.items() for path in paths]


def projections(some: list[Tensor]) -> list[Tensor]:
    rows = [torch.linalg.svd(one)[2][: int(torch.linalg.matrix_rank(one))] for one in some]
    return [one.T @ one for one in rows]


def seen(some: list[Tensor]) -> list[Tensor]:
    """Return what each member is asked to be undisturbed on: its own rows, and what no member reacts to."""
    rows = torch.cat(some)
    unknown = torch.eye(rows.shape[1], dtype=torch.float64) - projections([rows])[0]
    return [own + unknown for own in projections(some)]


def disturbance(some: list[Tensor], merged: Tensor) -> float:
    """J of interference.py, multiplied out."""
    return sum(float(((merged - one) @ inputs).square().sum()) for one, inputs in zip(some, seen(some), strict=True))


def equations(some: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return J as |A m - b|^2 with m stacked [members * in]."""
    left: list[Tensor] = []
    right: list[Tensor] = []
    for one, inputs in zip(some, seen(some), strict=True):
        blocks = [torch.einsum("oc,cp->opc", other, inputs).flatten(0, 1) for other in some]
        left.append(torch.cat(blocks, 1))
        right.append((one @ inputs).flatten())
    return torch.cat(left), torch.cat(right)


def nearest_to_one(left: Tensor, right: Tensor) -> Tensor:
    """Return the least squares solution nearest to m = 1."""
    ones = torch.ones(left.shape[1], dtype=torch.float64)
    return ones + torch.linalg.pinv(left, rtol=1e-7) @ (right - left @ ones)


def one_layer(path: str, places: tuple[int, ...] = (0, 1, 2)) -> tuple[list[Weighted], list[Tensor]]:
    some = [members()[place] for place in places]
    return some, [deltas(members(), "unet", path)[place] for place in places]


def test_soups_with_weights_given() -> None:
    alphas = {"unet": {"q": (0.5, 2.0, -1.0)}}
    found = layer_weights(members(), alphas)
    first, second, third = deltas(members(), "unet", "q")
    assert close(q(found), 0.5 * first + 2.0 * second - third)
    plain = wide(cat(members()))
    assert all(close(delta, plain[key]) for key, delta in wide(found).items() if key != "unet.q")
    ones = layer_weights(members(), {"unet": {"q": (1.0, 1.0, 1.0)}})
    assert close(q(ones), plain["unet.q"]) and ones.digest != found.digest


@pytest.mark.parametrize("path", ["q", "conv"])
def test_fitted_soups_disturb_least(path: str) -> None:
    some, whole = one_layer(path)
    left, right = equations(whole)
    width = whole[0].shape[1]
    summed = torch.stack([block.sum(1) for block in left.split(width, 1)], 1)
    alphas = nearest_to_one(summed, right)
    wanted = sum((alpha * one for alpha, one in zip(alphas, whole, strict=True)), torch.zeros(()))
    found = lora_soups(some).component("unet")[path].dense().double().flatten(1)
    assert close(found, wanted, 1e-4)
    plain = sum(whole, torch.zeros(()))
    assert disturbance(whole, found) < disturbance(whole, plain)
    half = lora_soups(some, 0.5).component("unet")[path].dense().double().flatten(1)
    assert close(half, (found + plain) / 2, 1e-5)
    assert close(lora_soups(some, 0.0).component("unet")[path].dense().flatten(1), plain)


def test_zip_with_columns_given() -> None:
    """T17: m = 1 is the sum, (1, 0) the first; a convolution's columns are its channels and kernel places."""
    total = wide(cat(members()))
    ones = {"unet": {"q": torch.ones(3, 5), "conv": torch.ones(3, 27)}}
    assert all(close(delta, total[key], 1e-6) for key, delta in wide(columns(members(), ones)).items())
    first = {"unet": {"q": torch.tensor([[1.0], [0.0], [0.0]]).expand(3, 5)}}
    assert close(q(columns(members(), first)), q(members()[0].adapter), 1e-6)
    generator = torch.Generator().manual_seed(3)
    m = torch.rand(3, 27, generator=generator)
    found = columns(members(), {"unet": {"conv": m}})
    whole = deltas(members(), "unet", "conv")
    wanted = sum((one @ torch.diag(row.double()) for one, row in zip(whole, m, strict=True)), torch.zeros(()))
    delta = found.component("unet")["conv"]
    assert isinstance(delta, LowRank) and delta.rank == 6
    assert close(delta.dense().flatten(1), wanted)
    assert len({columns(members(), one).digest for one in (ones, first, {"unet": {"conv": m}})}) == 3


@pytest.mark.parametrize("overlap", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("path", ["q", "conv"])
def test_fitted_columns_solve_the_least_squares(path: str, overlap: float) -> None:
    some, whole = one_layer(path)
    left, right = equations(whole)
    width = whole[0].shape[1]
    shared = overlap * float(left.square().sum(0).mean())
    more = shared**0.5 * torch.eye(width, dtype=torch.float64).repeat(1, 3)
    m = nearest_to_one(torch.cat([left, more]), torch.cat([right, shared**0.5 * torch.ones(width).double()]))
    pairs = zip(whole, m.reshape(3, width), strict=True)
    wanted = sum((one @ torch.diag(row) for one, row in pairs), torch.zeros(()))
    found = ziplora(some, overlap).component("unet")[path].dense().double().flatten(1)
    assert disturbance(whole, found) <= disturbance(whole, wanted) + 1e-3 or overlap > 0
    assert close(found, wanted, 2e-3)
    assert disturbance(whole, found) < disturbance(whole, sum(whole, torch.zeros(()))) or overlap == 1.0  # at a price


def test_columns_stay_sane_where_inputs_are_wide() -> None:
    """What no member reacts to is most of an input; a merged layer that reacts to it answers with noise."""
    some = [low_rank((20, 96), 4, seed) for seed in (1, 2)]
    rows = torch.cat([one.down for one in some]).double()
    unknown = torch.eye(96, dtype=torch.float64) - projections([rows])[0]
    found = q(ziplora([Weighted(adapter(str(n), {"q": one}), 1.0) for n, one in enumerate(some)]))
    plain = sum((one.dense().double() for one in some), torch.zeros(()))
    assert float((found @ unknown).norm()) < 0.1 * float(plain.norm())
    assert disturbance([one.dense().double() for one in some], found) < disturbance(
        [one.dense().double() for one in some], plain
    )


def test_the_form_is_that_of_the_equations() -> None:
    _, whole = one_layer("q", (0, 1))
    first, second = low_rank((6, 5), 2, 0), low_rank((6, 5), 3, 11)
    layer = Interference.of([first, LowRank(second.down, second.up * 0.5)])
    left, right = equations(whole)
    m = torch.rand(2, 5, generator=torch.Generator().manual_seed(0)).double()
    assert close(layer.pull(m).flatten(), left.T @ left @ m.flatten())
    assert close(layer.target().flatten(), left.T @ right)
    assert close(layer.diagonal().flatten(), (left.T @ left).diagonal())
    projected = [[one @ inputs for one in whole] for inputs in seen(whole)]
    wanted = torch.tensor([[[float((a * b).sum()) for b in row] for a in row] for row in projected])
    assert close(layer.products(), wanted, 1e-4)


@pytest.mark.parametrize("count", [2, 3])
def test_copies_share_and_strangers_keep_theirs(count: int) -> None:
    delta = low_rank((6, 5), 2, 4)
    for merge in (lora_soups, ziplora):
        assert close(q(merge(copies(delta, count))), delta.dense(), 1e-4)
    first, second = torch.zeros(4, 4), torch.zeros(4, 4)
    first[:, :2], second[:, 2:] = torch.arange(8.0).reshape(4, 2), -torch.arange(8.0).reshape(4, 2)
    for merged in (lora_soups(pair(first, second)), ziplora(pair(first, second), 0.0)):
        assert close(q(merged), first + second, 1e-4)


def test_a_delta_of_zero_changes_nothing() -> None:
    delta, zero = low_rank((6, 5), 2, 4), LowRank(torch.zeros(2, 5), torch.zeros(6, 2))
    some = [Weighted(adapter("a", {"q": delta}), 1.0), Weighted(adapter("b", {"q": zero}), 1.0)]
    for merge in (lora_soups, ziplora):
        assert close(q(merge(some)), delta.dense())
