"""TSV-Merge against its formula multiplied out in double precision, and where the result is known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from composer import registry
from composer.merges.common import Weighted
from composer.merging import MergingMethod
from lora_zoo.adapter import Adapter
from tests.composer.merges.small import close, copies, deltas, low_rank, members, pair, q, wide

LAYERS = [("unet", "q"), ("unet", "conv"), ("text_encoder", "proj")]


def merged(some: list[Weighted], scale: float = 1.0) -> Adapter:
    method = registry.create("tsv", {"scale": scale})
    assert isinstance(method, MergingMethod)
    return method.prepare(some)


def by_hand(some: list[Tensor], scale: float) -> Tensor:
    """The paper's steps on whole matrices; members without the layer have no part in it."""
    there = [one.numpy() for one in some if one.abs().sum() > 0]
    found = [np.linalg.svd(one, full_matrices=False) for one in there]
    count = min(there[0].shape) // len(there)
    kept = [min(count, int(np.linalg.matrix_rank(one))) for one in there]
    u = np.concatenate([f[0][:, :k] for f, k in zip(found, kept, strict=True)], 1)
    s = np.concatenate([f[1][:k] for f, k in zip(found, kept, strict=True)])
    v = np.concatenate([f[2][:k].T for f, k in zip(found, kept, strict=True)], 1)
    (pu, _, qu), (pv, _, qv) = (np.linalg.svd(one, full_matrices=False) for one in (u, v))
    return torch.from_numpy(scale * (pu @ qu) @ np.diag(s) @ (pv @ qv).T)


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize(("component", "path"), LAYERS)
def test_is_its_formula(component: str, path: str, scale: float) -> None:
    """Of layer q, [6, 5], each of three members keeps one vector of its 2, 3 and 1."""
    found = wide(merged(members(), scale))[f"{component}.{path}"].flatten(1)
    assert close(found, by_hand(deltas(members(), component, path), scale), 1e-4)


def test_its_vectors_are_orthogonal() -> None:
    """So the merged singular values are the members' own."""
    found = torch.linalg.svdvals(q(merged(members())))
    first = [float(torch.linalg.svdvals(one)[0]) for one in deltas(members(), "unet", "q")]
    assert close(found[:3], torch.tensor(sorted(first, reverse=True)).double(), 1e-4)


@pytest.mark.parametrize("count", [2, 3])
def test_copies_are_one_and_strangers_add_up(count: int) -> None:
    delta = low_rank((6, 6), 2, 4)
    assert close(q(merged(copies(delta, count))), delta.dense(), 1e-4)
    first, second = torch.zeros(4, 4), torch.zeros(4, 4)
    first[:2, :2], second[2:, 2:] = torch.arange(4.0).reshape(2, 2), 3 - torch.arange(4.0).reshape(2, 2)
    assert close(q(merged(pair(first, second, (1.0, -0.5)))), first - 0.5 * second, 1e-5)


def test_order_does_not_matter_and_a_delta_of_zero_is_not_there() -> None:
    one, other = (wide(merged(some)) for some in (members(), members()[::-1]))
    assert all(close(delta, other[key], 1e-4) for key, delta in one.items())
    zero = pair(torch.ones(6, 5), torch.zeros(6, 5))
    assert close(q(merged(zero)), torch.ones(6, 5))
