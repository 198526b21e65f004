"""OPCM against its definition on whole matrices: T22."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from composer.merges.cat import cat
from composer.merges.opcm import opcm, orthogonal
from tests.composer.merges.small import SHAPES, close, deltas, members, pair, q, wide


def cleaned(task: Tensor, merged: Tensor, alpha: float) -> Tensor:
    """The projection, entry by entry."""
    u, s, vh = torch.linalg.svd(merged)
    rank = int((s > 1e-9 * s[0]).sum()) if s[0] > 0 else 0
    split = next((n for n in range(rank) if float(s[: n + 1].sum() / s.sum()) > alpha), rank)
    inner = u.T @ task @ vh.T
    for i in range(rank):
        for j in range(rank):
            if i == j or (i < split and j < split):
                inner[i, j] = 0.0
    return u @ inner @ vh


def by_definition(component: str, alpha: float) -> dict[str, Tensor]:
    some = {path: deltas(members(), component, path) for path in SHAPES[component]}
    order = [n for n in range(3) if any(one[n].any() for one in some.values())]
    merged, factor = {path: one[order[0]] for path, one in some.items()}, 1.0
    norms = [sum(float(one[order[0]].square().sum()) for one in some.values()) ** 0.5]
    for n in order[1:]:
        norms.append(sum(float(one[n].square().sum()) for one in some.values()) ** 0.5)
        merged = {path: factor * merged[path] + cleaned(one[n], merged[path], alpha) for path, one in some.items()}
        norm = sum(float(one.square().sum()) for one in merged.values()) ** 0.5
        factor = norm / (sum(norms) / len(norms))
        merged = {path: one / factor for path, one in merged.items()}
    return merged


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("component", list(SHAPES))
def test_is_its_definition(component: str, alpha: float) -> None:
    found = opcm(members(), alpha).component(component)
    for path, wanted in by_definition(component, alpha).items():
        assert close(found[path].dense().flatten(1), wanted)


def test_the_projected_part_avoids_what_is_used() -> None:
    generator = torch.Generator().manual_seed(0)
    merged, task = torch.randn(2, 4, 4, generator=generator)
    u, s, vh = torch.linalg.svd(merged)
    inner = u.T @ orthogonal(task, merged, 0.5) @ vh.T
    split = int((s.cumsum(0) / s.sum() <= 0.5).sum())
    assert split == 1
    assert close(inner.diagonal(), torch.zeros(4), 1e-5)
    assert close(orthogonal(task, merged, 1.0), torch.zeros(4, 4), 1e-5)
    assert torch.equal(orthogonal(task, torch.zeros(4, 4), 0.5), task)


def test_orthogonal_members_add_up() -> None:
    """Nothing is taken away, so the result is the sum, scaled to the members' mean norm."""
    first, second = torch.zeros(4, 4), torch.zeros(4, 4)
    first[0, 0], second[1, 2] = 3.0, 4.0
    assert close(q(opcm(pair(first, second))), (first + second) * (3.5 / 5.0))


def test_a_copy_adds_nothing() -> None:
    first = torch.diag(torch.tensor([3.0, 2.0, 0.0, 0.0]))
    assert close(q(opcm(pair(first, first))), first)


def test_the_result_has_the_mean_norm() -> None:
    def norm(some: dict[str, Tensor]) -> float:
        return sum(float(one.square().sum()) for key, one in some.items() if key.startswith("unet")) ** 0.5

    mean = sum(abs(m.weight) * norm(wide(m.adapter)) for m in members()) / 3
    assert norm(wide(opcm(members()))) == pytest.approx(mean, rel=1e-5)
    assert norm(wide(cat(members()))) > mean
