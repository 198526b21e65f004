"""ZipLoRA (arXiv:2311.13600): one coefficient per input column, delta = sum_i delta_i diag(m_i).

Folded into `down`, so the result is a LoRA of rank sum r_i, exactly; m = 1 is the sum. The paper trains m on the
model's predictions for two LoRAs; `columns` takes any m, for any number of members. `ziplora` needs no model: it is the
closed form of that loss layer by layer, on the inputs the members react to instead of on pictures:

    m = argmin J(m) + overlap * s * || sum_i m_i - 1 ||^2        (J: interference.py; s: mean of J's diagonal)

solved by conjugate gradients from m = 1, so that columns on which nothing depends stay there. The second term is the
paper's penalty on members using the same column, made quadratic: it asks columns to be shared out instead of doubled.
Deviations from the authors' code: all layers have coefficients, theirs attention's q, k, v and out; alpha / rank
counts; a convolution has one coefficient per channel and kernel place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from composer.merges.common import Part, Recipe, Weighted, acting, factored, merge_layers, parts_by_layer, stacked
from composer.merges.interference import Interference
from lora_zoo.adapter import Adapter, LowRank

#: Component -> layer -> coefficients [members, in], `in` flattened for convolutions.
Columns = Mapping[str, Mapping[str, Tensor]]

_ROUNDS = 200
_DONE = 1e-8  # relative residual


def ziplora(members: Sequence[Weighted], overlap: float = 0.01) -> Adapter:
    """Return the sum with columns scaled so that the members disturb each other least."""
    return merge_layers(Recipe("ziplora", {"overlap": overlap}), members, lambda parts: _merge(parts, overlap))


def columns(members: Sequence[Weighted], coefficients: Columns) -> Adapter:
    """Return the sum with these column coefficients; a layer that is not named keeps 1 for all."""
    layers: dict[str, dict[str, LowRank]] = {}
    digest = hashlib.sha256()
    for component, paths in parts_by_layer(members).items():
        for path, parts in paths.items():
            named = coefficients.get(component, {}).get(path)
            chosen = None if named is None else named[[part.member for part in parts]]
            layers.setdefault(component, {})[path] = _scaled_sum([factored(part.delta) for part in parts], chosen)
            if named is not None:
                digest.update(f"{component}/{path}".encode() + named.float().contiguous().numpy().tobytes())
    return Recipe("ziplora", {"columns_sha256": digest.hexdigest()}).adapter(members, layers)


def _merge(parts: Sequence[Part], overlap: float) -> LowRank:
    deltas = acting(parts)
    return _scaled_sum(deltas, _solve(Interference.of(deltas), overlap))


def _scaled_sum(deltas: Sequence[LowRank], coefficients: Tensor | None) -> LowRank:
    if coefficients is None:
        return stacked(deltas)
    pairs = zip(deltas, coefficients.float(), strict=True)
    return stacked([LowRank((one.down.flatten(1) * m).reshape(one.down.shape), one.up) for one, m in pairs])


def _solve(layer: Interference, overlap: float) -> Tensor:
    """Return the coefficients [members, in] by conjugate gradients."""
    diagonal = layer.diagonal()
    solution = torch.ones_like(diagonal)
    shared = overlap * float(diagonal.mean())

    def form(m: Tensor) -> Tensor:
        return layer.pull(m) + shared * m.sum(0)

    target = layer.target() + shared
    residual = target - form(solution)
    direction, size = residual, float(residual.square().sum())
    done = _DONE**2 * float(target.square().sum())
    for _ in range(_ROUNDS):
        if size <= done:
            break
        image = form(direction)
        step = size / float((direction * image).sum())
        solution = solution + step * direction
        residual = residual - step * image
        before, size = size, float(residual.square().sum())
        direction = residual + (size / before) * direction
    return solution
