"""NP-LoRA (arXiv:2511.11051): keep one LoRA's subspace free of the others.

delta = delta_s + sum_c delta_c (I - mu / (1 + mu) V_k V_k^T), with V_k the first k right singular vectors of the
protected delta_s (the style's). mu = 0 or k = 0 is the plain sum; mu -> infinity projects the others off it entirely.
The projection acts on the others' `down`, so the result keeps rank sum r_i, exactly.
Deviation: the paper has one content and one style; here any number of others are projected. Where the protected member
lacks a layer, the others are summed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from composer.merges.common import Part, Recipe, Weighted, decompose, factored, merge_layers, stacked
from lora_zoo.adapter import Adapter, LowRank

Which = Literal["first", "last"]


def nplora(members: Sequence[Weighted], mu: float = 0.5, k: int = 8, protected: Which = "last") -> Adapter:
    """Return the sum of the protected member and the others, projected off its first k directions."""
    place = 0 if protected == "first" else len(members) - 1
    share = 1.0 if math.isinf(mu) else mu / (1.0 + mu)
    recipe = Recipe("nplora", {"mu": mu, "k": k, "protected": protected})
    return merge_layers(recipe, members, lambda parts: _merge(parts, place, share, k))


def _merge(parts: Sequence[Part], place: int, share: float, k: int) -> LowRank:
    subspace = next((decompose(part.delta)[2][:k] for part in parts if part.member == place), None)
    deltas = ((part.member, factored(part.delta)) for part in parts)
    if subspace is None:
        return stacked([delta for _, delta in deltas])
    return stacked([delta if member == place else _projected(delta, subspace, share) for member, delta in deltas])


def _projected(delta: LowRank, subspace: Tensor, share: float) -> LowRank:
    down = delta.down.flatten(1)
    return LowRank((down - share * (down @ subspace.mT) @ subspace).reshape(delta.down.shape), delta.up)
