"""Merging by least squares on inputs, against the same equations multiplied out: T19 and T20."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from composer.merges.regression import Regression
from lora_zoo.adapter import LowRank
from tests.composer.merges.small import close, low_rank, product

SHAPE, CONV = (6, 10), (6, 2, 3, 3)
RIDGE = 1e-12


def inputs(count: int, seed: int, size: int = 10) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def flat(delta: LowRank) -> Tensor:
    return product(delta).flatten(1)


def seen(deltas: Mapping[int, LowRank], heard: Mapping[int, Tensor], within: bool) -> Regression:
    found = Regression(deltas, within)
    for member, rows in heard.items():
        found.see(member, rows)
    return found


def wrong(merged: Tensor, deltas: Mapping[int, LowRank], heard: Mapping[int, Tensor]) -> float:
    """Return the squared distance to what each member does alone; one without a delta does nothing."""
    alone = {member: flat(deltas[member]) if member in deltas else torch.zeros(6, 1).double() for member in heard}
    pairs = ((heard[member].double(), one) for member, one in alone.items())
    return sum(float((rows @ (merged - one).T).square().sum()) for rows, one in pairs)


@pytest.mark.parametrize("shape", [SHAPE, CONV])
@pytest.mark.parametrize("within", [False, True])
def test_one_member_is_recovered(within: bool, shape: tuple[int, ...]) -> None:
    """T19, first half: inputs that leave nothing open give the delta itself."""
    delta = low_rank(shape, 2, 1)
    found = seen({0: delta}, {0: inputs(40, 2, 10 if len(shape) == 2 else 18)}, within).solve(RIDGE)
    assert close(found.dense(), delta.dense(), 1e-5) and found.down.shape[1:] == shape[1:]


def test_inputs_that_do_not_meet_leave_nothing_wrong() -> None:
    """T19, second half: on orthogonal inputs each member is as alone, exactly."""
    deltas = {0: low_rank(SHAPE, 2, 1), 1: low_rank(SHAPE, 3, 2)}
    basis = torch.linalg.qr(inputs(10, 3))[0]
    heard = {0: inputs(8, 4, 4) @ basis[:4], 1: inputs(8, 5, 5) @ basis[4:9]}
    merged = flat(seen(deltas, heard, False).solve(RIDGE))
    for member, rows in heard.items():
        assert close(rows.double() @ merged.T, rows.double() @ flat(deltas[member]).T, 1e-5)
    assert wrong(flat(deltas[0]) + flat(deltas[1]), deltas, heard) > 1.0


def test_gradient_fusion_is_the_least_squares_solution() -> None:
    """Unequal ranks, as many inputs as like, and a member that has no delta here."""
    deltas = {0: low_rank(SHAPE, 2, 1), 2: low_rank(SHAPE, 3, 2)}
    heard = {0: inputs(30, 3), 1: inputs(20, 4), 2: inputs(40, 5)}
    found = seen(deltas, heard, False).solve(RIDGE)
    targets = [heard[0].double() @ flat(deltas[0]).T, torch.zeros(20, 6), heard[2].double() @ flat(deltas[2]).T]
    wanted = torch.linalg.lstsq(torch.cat([*heard.values()]).double(), torch.cat(targets)).solution.T
    assert close(flat(found), wanted, 1e-5)
    assert found.rank == 5


@pytest.mark.parametrize("ridge", [1e-3, 0.1])
def test_the_ridge_is_that_of_the_paper(ridge: float) -> None:
    """W* = W0 + (sum delta_i X_i X_i^T) (sum X_i X_i^T + eps)^-1."""
    deltas, heard = {0: low_rank(SHAPE, 2, 1), 1: low_rank(SHAPE, 3, 2)}, {0: inputs(30, 3), 1: inputs(5, 4)}
    grams = {member: rows.double().T @ rows.double() for member, rows in heard.items()}
    gram = grams[0] + grams[1]
    above = sum((flat(deltas[member]) @ grams[member] for member in deltas), torch.zeros(()))
    wanted = above @ torch.linalg.inv(gram + ridge * gram.diagonal().mean() * torch.eye(10))
    assert close(flat(seen(deltas, heard, False).solve(ridge)), wanted, 1e-5)


def test_ssr_of_one_is_the_identity() -> None:
    """T20."""
    found = seen({0: low_rank(SHAPE, 3, 1)}, {0: inputs(50, 2)}, True).coefficients(RIDGE)
    assert close(found, torch.eye(3), 1e-4)


def test_ssr_is_exact_where_what_members_read_is_independent() -> None:
    deltas = {0: low_rank(SHAPE, 2, 1), 1: low_rank(SHAPE, 3, 2)}
    heard = {0: inputs(30, 3, 2) @ inputs(2, 4), 1: inputs(30, 5, 3) @ inputs(3, 6)}
    merged = flat(seen(deltas, heard, True).solve(RIDGE))
    for member, rows in heard.items():
        assert close(rows.double() @ merged.T, rows.double() @ flat(deltas[member]).T, 1e-4)


def test_ssr_is_the_best_of_its_form() -> None:
    deltas, heard = {0: low_rank(SHAPE, 2, 1), 1: low_rank(SHAPE, 3, 2)}, {0: inputs(30, 3), 1: inputs(30, 4)}
    merged = seen(deltas, heard, True)
    routes = merged.coefficients(RIDGE)
    down = torch.cat([delta.down for delta in deltas.values()]).double()
    up = torch.cat([delta.up for delta in deltas.values()], 1).double()
    assert close(flat(merged.solve(RIDGE)), up @ routes @ down, 1e-5)
    least = wrong(up @ routes @ down, deltas, heard)
    for seed in range(5):
        other = routes + 1e-2 * inputs(5, seed, 5).double()
        assert wrong(up @ other @ down, deltas, heard) > least
    assert least < wrong(up @ down, deltas, heard)
    assert wrong(flat(seen(deltas, heard, False).solve(RIDGE)), deltas, heard) < least


@pytest.mark.parametrize("within", [False, True])
def test_errors_are_those_multiplied_out(within: bool) -> None:
    deltas, heard = {0: low_rank(SHAPE, 2, 1), 2: low_rank(SHAPE, 3, 2)}, {n: inputs(30, n + 3) for n in range(3)}
    found = seen(deltas, heard, within)
    fitted, plain, wanted = found.errors(0.01)
    assert fitted == pytest.approx(wrong(flat(found.solve(0.01)), deltas, heard), rel=1e-4)
    assert plain == pytest.approx(wrong(flat(deltas[0]) + flat(deltas[2]), deltas, heard), rel=1e-4)
    assert wanted == pytest.approx(wrong(torch.zeros(6, 10).double(), deltas, heard), rel=1e-4)


@pytest.mark.parametrize("within", [False, True])
def test_inputs_may_come_in_pieces_and_in_any_order(within: bool) -> None:
    deltas, heard = {0: low_rank(SHAPE, 2, 1), 1: low_rank(SHAPE, 3, 2)}, {0: inputs(30, 3), 1: inputs(30, 4)}
    pieces = Regression(deltas, within)
    for rows in heard[1].split(7):
        pieces.see(1, rows)
    for rows in heard[0].split(11):
        pieces.see(0, rows)
    assert close(pieces.coefficients(0.01), seen(deltas, heard, within).coefficients(0.01), 1e-8)


def test_without_inputs_nothing_is_taken() -> None:
    assert not flat(Regression({0: low_rank(SHAPE, 2, 1)}, within=False).solve(RIDGE)).any()
