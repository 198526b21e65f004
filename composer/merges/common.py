"""What all merges share: members, the walk over layers, the recipe that names a result, and algebra on factors.

Deltas of rank r are never multiplied out where it can be helped: for up [out, r] and down [r, in], two QR
decompositions leave an r x r core, and what is done to the core is done to the delta.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor

from composer.errors import BadRequest
from lora_zoo.adapter import Adapter, Delta, DenseDelta, LowRank

RECIPE = "medley.recipe"  # metadata of a merged adapter: how it was made, as JSON

_ROUNDING = 1e-5  # of a delta's greatest singular value; what is smaller holds 1e-10 of its energy

Parameters = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, eq=False)
class Weighted:
    """A member of a merge."""

    adapter: Adapter
    weight: float


@dataclass(frozen=True, eq=False)
class Part:
    """What one member brings to one layer, its weight folded in."""

    member: int  # its place among the members
    origin: str  # names this delta among all; random draws follow it, so that no neighbour changes them
    delta: Delta


MergeLayer = Callable[[Sequence[Part]], Delta]


@dataclass(frozen=True)
class Recipe:
    """A merge by name, with its parameters: what, together with the members, decides the result."""

    method: str
    parameters: Parameters

    def digest(self, members: Sequence[Weighted]) -> str:
        """Return the sha256 that a merge of these members goes by. Names have no part in it."""
        who = [{"sha256": one.adapter.digest, "weight": one.weight} for one in members]
        return hashlib.sha256(self._text(who).encode()).hexdigest()

    def adapter(
        self, members: Sequence[Weighted], layers: Mapping[str, Mapping[str, Delta]], sums: bool = False
    ) -> Adapter:
        """Return the merged adapter under its recipe's digest.

        Biases and normalisation of one member alone, or of a merge that `sums`, add up; else they are refused, for what
        a merge makes of matrices says nothing of them.
        """
        if not sums and counting(members) > 1:
            refuse_vectors(self.method, members)
        names = [one.adapter.name for one in members]
        who = [{"name": m.adapter.name, "sha256": m.adapter.digest, "weight": m.weight} for m in members]
        metadata = {RECIPE: self._text(who)}
        name = f"{self.method}({', '.join(names)})"
        return Adapter(name, self.digest(members), layers, metadata, vectors=_summed(members))

    def _text(self, members: object) -> str:
        return json.dumps({"method": self.method, "parameters": self.parameters, "members": members}, sort_keys=True)


def merge_layers(recipe: Recipe, members: Sequence[Weighted], merge_layer: MergeLayer, sums: bool = False) -> Adapter:
    """Merge layer by layer, each on its own; `sums` says that this adds deltas up and does no more."""
    table = parts_by_layer(members)
    alone = counting(members) == 1
    layers = {
        component: {path: parts[0].delta if alone else merge_layer(parts) for path, parts in paths.items()}
        for component, paths in table.items()
    }
    return recipe.adapter(members, layers, sums)


def refuse_vectors(method: str, members: Sequence[Weighted]) -> None:
    """Refuse members that change more than a merge of matrices can say anything of."""
    for one in members:
        if one.weight and any(one.adapter.vectors.values()):
            raise BadRequest(
                f"LoRA '{one.adapter.name}' changes biases or normalisation layers, and '{method}' merges matrices "
                "alone; choose cat or svd, which add those up too, or a method that merges nothing, such as merge, "
                "switch or composite"
            )


def _summed(members: Sequence[Weighted]) -> dict[str, dict[str, Tensor]]:
    """Return the weighted sum of the members' changes to biases and normalisation."""
    found: dict[str, dict[str, Tensor]] = {}
    for one in members:
        for component, changes in one.adapter.vectors.items() if one.weight else ():
            here = found.setdefault(component, {})
            for path, change in changes.items():
                mine = change.float() * one.weight
                here[path] = here[path] + mine if path in here else mine
    return found


def acting(parts: Sequence[Part]) -> list[LowRank]:
    """Return a layer's deltas as factors, without those that are zero; if all are, the first."""
    deltas = [factored(part.delta) for part in parts]
    return [delta for delta in deltas if energy(delta)] or deltas[:1]


def counting(members: Sequence[Weighted]) -> int:
    """Return how many members have a weight other than 0."""
    return sum(bool(one.weight) for one in members)


def parts_by_layer(members: Sequence[Weighted]) -> dict[str, dict[str, list[Part]]]:
    """Return component -> layer -> what the members bring, in their order; members of weight 0 bring nothing."""
    table: dict[str, dict[str, list[Part]]] = {}
    for place, one in enumerate(members):
        for component, deltas in one.adapter.layers.items() if one.weight else ():
            for path, delta in deltas.items():
                part = Part(place, f"{one.adapter.digest}/{component}/{path}", scaled(delta, one.weight))
                table.setdefault(component, {}).setdefault(path, []).append(part)
    return table


def scaled(delta: Delta, weight: float) -> Delta:
    """Return weight * delta in float32; factors share it evenly, so that neither leaves half precision's range."""
    if isinstance(delta, DenseDelta):
        return DenseDelta(delta.delta.float() * weight)
    root = abs(weight) ** 0.5
    return LowRank(delta.down.float() * root, delta.up.float() * (root if weight >= 0 else -root))


def total(parts: Sequence[Part]) -> Tensor:
    """Return the sum of deltas, dense."""
    summed = parts[0].delta.dense()
    for part in parts[1:]:
        summed = summed + part.delta.dense()
    return summed


def stacked(deltas: Sequence[LowRank]) -> LowRank:
    """Return the exact sum of deltas, as factors side by side."""
    return LowRank(torch.cat([delta.down for delta in deltas]), torch.cat([delta.up for delta in deltas], 1))


def factored(delta: Delta) -> LowRank:
    """Return a delta as factors: itself, or for one kept whole its decomposition, exact."""
    return delta if isinstance(delta, LowRank) else from_svd(*decompose(delta), delta.delta)


def decompose(delta: Delta) -> tuple[Tensor, Tensor, Tensor]:
    """Return U [out, k], S [k], Vh [k, in] of a delta, as `canonical` has them."""
    if isinstance(delta, DenseDelta):
        return canonical(*svd(delta.delta.float().flatten(1)))
    left, core_left = qr(delta.up)
    right, core_right = qr(delta.down.flatten(1).mT)
    u, s, vh = svd(core_left @ core_right.mT)
    return canonical(left @ u, s, vh @ right.mT)


def from_svd(u: Tensor, s: Tensor, vh: Tensor, like: Tensor) -> LowRank:
    """Return u * s @ vh as factors of equal norms, `down` shaped for a layer whose weight (or down) is `like`."""
    if not len(s):  # a delta of zero still has a rank
        return LowRank(like.new_zeros(1, *like.shape[1:]), u.new_zeros(len(u), 1))
    root = s.sqrt()
    down = root[:, None] * vh
    return LowRank(down.reshape(len(s), *like.shape[1:]), u * root)


def split(tensor: Tensor, sizes: Sequence[int], dim: int) -> list[Tensor]:
    """Return consecutive blocks of these sizes."""
    return [tensor.narrow(dim, sum(sizes[:place]), size) for place, size in enumerate(sizes)]


def seeded(seed: int, origin: str) -> torch.Generator:
    """Return a generator that depends on the seed and on whose draw it is, not on what was drawn before."""
    digest = hashlib.sha256(f"{seed}/{origin}".encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "little") >> 1)


class _Linalg(Protocol):
    """The typed face of torch.linalg, which has none."""

    def qr(self, a: Tensor, /) -> tuple[Tensor, Tensor]: ...
    def svd(self, a: Tensor, /, full_matrices: bool) -> tuple[Tensor, Tensor, Tensor]: ...
    def solve(self, a: Tensor, b: Tensor, /) -> Tensor: ...


_linalg = cast(_Linalg, torch.linalg)


def qr(a: Tensor) -> tuple[Tensor, Tensor]:
    return _linalg.qr(a)


def svd(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the reduced U, S, Vh."""
    return _linalg.svd(a, full_matrices=False)


def solve(a: Tensor, b: Tensor) -> Tensor:
    """Return x with a x = b."""
    return _linalg.solve(a, b)


def rank_of(delta: Delta) -> int:
    """Return how many columns hold a delta exactly; for one kept whole, as many as its shape may need."""
    return delta.rank if isinstance(delta, LowRank) else min(delta.delta.flatten(1).shape)


def energy(delta: Delta) -> float:
    """Return the squared Frobenius norm of a delta."""
    if isinstance(delta, DenseDelta):
        return float(delta.delta.double().square().sum())
    down, up = delta.down.double().flatten(1), delta.up.double()
    return float(((up.mT @ up) * (down @ down.mT)).sum())


def canonical(u: Tensor, s: Tensor, vh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a decomposition without what is arbitrary in it.

    Directions whose singular value is zero but for float32's rounding are left out, and of (u, v) and (-u, -v) the one
    is taken in which the greatest entry of u is positive.
    """
    keep = int((s > s.max() * _ROUNDING).sum())
    u, s, vh = u[:, :keep], s[:keep], vh[:keep]
    signs = torch.where(u.gather(0, u.abs().argmax(0, keepdim=True)) < 0, -1.0, 1.0).to(u.dtype)
    return u * signs, s, vh * signs.mT
