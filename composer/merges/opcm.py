"""OPCM (orthogonal projection, arXiv:2501.09522): add members one after another, each without what is there already.

Member t is written in the singular basis (U, V) of what members 1 to t-1 have made: P = U^T delta_t V. The diagonal of
P and its top-left block, the directions that hold the share `alpha` of the singular values, are set to zero; then
merged = (lambda_(t-1) * merged + U P V^T + the rest of delta_t) / lambda_t, where lambda_t (about sqrt(t)) is such that
the norm of the result is the mean norm of the members so far. Norms are taken over all layers of a component; members
that have none there are left out.
Deviations from the authors' code: U, V hold only directions that the merged delta has, since the others are arbitrary
(a full basis would clear arbitrary entries of P); the order is the user's, not shuffled.
Everything happens on cores: in the joint column and row spaces of a layer's factors, each delta is a small matrix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from composer.merges.common import Part, Recipe, Weighted, canonical, factored, parts_by_layer, qr, split, svd
from lora_zoo.adapter import Adapter, LowRank


def opcm(members: Sequence[Weighted], alpha: float = 0.5) -> Adapter:
    """Return the members added in their order, each off the directions that those before it rest on."""
    layers = {component: _merge(paths, alpha) for component, paths in parts_by_layer(members).items()}
    return Recipe("opcm", {"alpha": alpha}).adapter(members, layers)


@dataclass(frozen=True, eq=False)
class _Layer:
    """A layer's deltas in the joint basis of their factors: delta_i = left @ cores[i] @ right^T."""

    left: Tensor  # [out, a]
    right: Tensor  # [in, b]
    cores: Mapping[int, Tensor]  # member -> [a, b]
    like: Tensor  # a down of this layer

    @classmethod
    def of(cls, parts: Sequence[Part]) -> _Layer:
        deltas = [factored(part.delta) for part in parts]
        ranks = [delta.rank for delta in deltas]
        left, core_left = qr(torch.cat([delta.up for delta in deltas], 1))
        right, core_right = qr(torch.cat([delta.down.flatten(1) for delta in deltas]).mT)
        pairs = zip(split(core_left, ranks, 1), split(core_right, ranks, 1), strict=True)
        cores = {part.member: a @ b.mT for part, (a, b) in zip(parts, pairs, strict=True)}
        return cls(left, right, cores, deltas[0].down)

    def core(self, member: int) -> Tensor:
        empty = self.left.new_zeros(self.left.shape[1], self.right.shape[1])
        return self.cores.get(member, empty)

    def delta(self, core: Tensor) -> LowRank:
        return LowRank(self.right.mT.reshape(-1, *self.like.shape[1:]), self.left @ core)


def _merge(paths: Mapping[str, Sequence[Part]], alpha: float) -> dict[str, LowRank]:
    layers = {path: _Layer.of(parts) for path, parts in paths.items()}
    members = sorted({part.member for parts in paths.values() for part in parts})
    tasks = [{path: layer.core(member) for path, layer in layers.items()} for member in members]
    merged, *others = [task for task in tasks if _norm(task)] or tasks[:1]
    norms, factor = [_norm(merged)], 1.0
    for task in others:
        added = {path: factor * merged[path] + orthogonal(task[path], merged[path], alpha) for path in layers}
        norms.append(_norm(task))
        factor = _norm(added) * len(norms) / sum(norms) or 1.0
        merged = {path: core / factor for path, core in added.items()}
    return {path: layer.delta(merged[path]) for path, layer in layers.items()}


def orthogonal(task: Tensor, merged: Tensor, alpha: float) -> Tensor:
    """Return a matrix without the entries that the singular basis of `merged` already uses."""
    u, s, vh = canonical(*svd(merged))
    taken = u.mT @ task @ vh.mT
    block = len(s) if alpha >= 1 else int((s.cumsum(0) <= alpha * s.sum()).sum())
    outside = ~torch.eye(len(s), dtype=torch.bool)
    outside[:block, :block] = False
    return task - u @ taken.masked_fill(outside, 0.0) @ vh


def _norm(cores: Mapping[str, Tensor]) -> float:
    return sum(float(core.double().square().sum()) for core in cores.values()) ** 0.5
