"""TSV-Merge (arXiv:2412.00081): singular vectors of all LoRAs, made orthogonal to each other before they add up.

delta_i = U_i S_i V_i^T, of which the first min(out, in) / N vectors stay; U = [U_1 ... U_N], S and V in the same way.
With U = P D Q^T, the nearest orthogonal matrix is P Q^T; so merged = `scale` * (P_U Q_U^T) S (P_V Q_V^T)^T.
Members whose vectors are orthogonal already add up unchanged. The result has rank sum r_i at most.
Deviation: where vectors of U or V depend on each other, P and Q hold those of D > 0 only, for the others are arbitrary;
so N copies of one LoRA are that LoRA.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from composer.merging import MergingMethod
from composer.registry import method

if TYPE_CHECKING:
    from torch import Tensor

    from composer.merges.common import Part, Weighted
    from lora_zoo.adapter import Adapter, LowRank

_DEPENDENT = 1e-4  # D's values for vectors of length one; what is smaller is rounding


@method("tsv", title="TSV-Merge")
class Tsv(MergingMethod):
    """Make the LoRAs' singular vectors orthogonal to each other, then add."""

    scale: float = Field(default=1.0, ge=0.0, le=4.0, description="Strength of the result.")

    def prepare(self, adapters: Sequence[Weighted]) -> Adapter:
        from composer.merges.common import Recipe, merge_layers

        recipe = Recipe("tsv", {"scale": self.scale})
        return merge_layers(recipe, adapters, lambda parts: _merged(parts, self.scale))


def _merged(parts: Sequence[Part], scale: float) -> LowRank:
    import torch

    from composer.merges.common import acting, decompose, from_svd

    deltas = acting(parts)
    found = [decompose(delta) for delta in deltas]
    (outer, _), (_, inner) = found[0][0].shape, found[0][2].shape
    kept = max(1, min(outer, inner) // len(deltas))
    u = torch.cat([u[:, :kept] for u, _, _ in found], 1)
    s = torch.cat([s[:kept] for _, s, _ in found])
    v = torch.cat([vh[:kept].mT for _, _, vh in found], 1)
    return from_svd(_orthogonal(u), s * scale, _orthogonal(v).mT, deltas[0].down)


def _orthogonal(vectors: Tensor) -> Tensor:
    """Return the nearest matrix with orthogonal columns, [n, k]."""
    from composer.merges.common import svd

    p, d, q = svd(vectors)
    return p[:, d > _DEPENDENT] @ q[d > _DEPENDENT]
