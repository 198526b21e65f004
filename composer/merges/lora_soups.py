"""LoRA Soups, CAT (arXiv:2410.13025): one weight per member and layer, delta^l = sum_i alpha_i^l w_i delta_i^l.

alpha = 1 is the sum. The paper trains the alphas on a few samples of the combined task; `layer_weights` takes alphas
from wherever they come. Deviation: where there are none, `fitted` finds those that disturb the members least on the
inputs they react to (see interference.py), the solution nearest to 1; members that do not meet in a layer keep 1, and
N copies of one LoRA get 1/N each. The result is exact, of rank sum r_i.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor

from composer.merges.common import Part, Recipe, Weighted, factored, parts_by_layer, scaled, stacked
from composer.merges.interference import Interference
from lora_zoo.adapter import Adapter, LowRank

#: Component -> layer -> one weight per member, in their order.
LayerWeights = Mapping[str, Mapping[str, Sequence[float]]]

_RESOLUTION = 1e-6  # combinations of members that differ less than this, relatively, are taken for the same


def lora_soups(members: Sequence[Weighted], strength: float = 1.0) -> Adapter:
    """Return the sum with fitted weights per layer; strength 0 is the plain sum."""
    table = parts_by_layer(members)
    layers = {
        component: {path: _weighed(parts, _fitted(parts, strength)) for path, parts in paths.items()}
        for component, paths in table.items()
    }
    return Recipe("lora_soups", {"strength": strength}).adapter(members, layers)


def layer_weights(members: Sequence[Weighted], alphas: LayerWeights) -> Adapter:
    """Return the sum with these weights; a layer that is not named keeps 1 for all."""
    layers: dict[str, dict[str, LowRank]] = {}
    for component, paths in parts_by_layer(members).items():
        for path, parts in paths.items():
            named = alphas.get(component, {}).get(path)
            weights = [1.0 if named is None else named[part.member] for part in parts]
            layers.setdefault(component, {})[path] = _weighed(parts, weights)
    listed = repr(sorted((c, p, tuple(a)) for c, paths in alphas.items() for p, a in paths.items()))
    return Recipe("lora_soups", {"layer_weights": listed}).adapter(members, layers)


def _weighed(parts: Sequence[Part], weights: Sequence[float]) -> LowRank:
    return stacked([factored(scaled(part.delta, weight)) for part, weight in zip(parts, weights, strict=True)])


def _fitted(parts: Sequence[Part], strength: float) -> list[float]:
    products = Interference.of([factored(part.delta) for part in parts]).products()
    form = products.sum(0)
    target = torch.stack([products[i, :, i] for i in range(len(parts))]).sum(0)
    change = _pinv(form) @ (target - form.sum(1))
    return [1.0 + strength * float(one) for one in change]


class _Linalg(Protocol):
    def pinv(self, a: Tensor, /, *, rtol: float, hermitian: bool) -> Tensor: ...


def _pinv(form: Tensor) -> Tensor:
    return cast(_Linalg, torch.linalg).pinv(form, rtol=_RESOLUTION, hermitian=True)
