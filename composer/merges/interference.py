"""How much the members of a layer disturb each other, as a quadratic form that needs no data and no model.

What a LoRA was trained on is not in its file, but the input directions that it reacts to are: the row space of its
delta. Member i is undisturbed if the merged layer does what delta_i does alone on those, and nothing on what no member
reacts to, which most of an input is:

    J = sum_i || (sum_j delta_j diag(m_j) - delta_i) (P_i + Q) ||^2

P_i is the projection onto the rows of delta_i, Q that onto what is orthogonal to the rows of all. LoRA Soups (one m per
layer and member, for which Q has no effect) and ZipLoRA (one per input column) weigh members; J is quadratic in both,
so that its least squares solution stands in for their training. All of it runs on factors, in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from composer.merges.common import decompose, svd
from lora_zoo.adapter import LowRank

_RESOLUTION = 1e-5  # directions that add less to the probes, relatively, are no new ones


@dataclass(frozen=True, eq=False)
class Interference:
    """One layer's members, side by side."""

    down: Tensor  # [ranks, in]
    gram: Tensor  # [ranks, ranks], of the columns of up
    owner: Tensor  # [ranks, members], one-hot
    probes: tuple[Tensor, ...]  # per member, orthonormal directions that it reacts to, [in, own rank]
    known: Tensor  # orthonormal directions that some member reacts to, [in, rank of all]

    @classmethod
    def of(cls, deltas: Sequence[LowRank]) -> Interference:
        """Take the members' deltas of one layer."""
        deltas = [LowRank(delta.down.flatten(1).double(), delta.up.double()) for delta in deltas]
        up, down = torch.cat([delta.up for delta in deltas], 1), torch.cat([delta.down for delta in deltas])
        ranks = torch.tensor([delta.rank for delta in deltas])
        owner = torch.eye(len(deltas), dtype=torch.float64).repeat_interleave(ranks, 0)
        probes = tuple(decompose(delta)[2].mT for delta in deltas)
        known, sizes, _ = svd(torch.cat(probes, 1))
        return cls(down, up.mT @ up, owner, probes, known[:, sizes > _RESOLUTION])

    def products(self) -> Tensor:
        """Return [i, j, k]: the scalar product of delta_j P_i and delta_k P_i."""
        seen = [self.down @ probe for probe in self.probes]
        return torch.stack([self.owner.mT @ (self.gram * (one @ one.mT)) @ self.owner for one in seen])

    def pull(self, columns: Tensor) -> Tensor:
        """Return half the gradient's linear part, [members, in], for column coefficients [members, in]."""
        rows = self.down * (self.owner @ columns)
        outside = rows - rows @ self.known @ self.known.mT
        return self._fold(_onto(rows, torch.cat(self.probes, 1)) + len(self.probes) * outside)

    def target(self) -> Tensor:
        """Return what `pull` gives at any solution, [members, in]."""
        own = [self.down * self.owner[:, [place]] for place in range(len(self.probes))]
        return torch.stack([self._fold(_onto(*pair)) for pair in zip(own, self.probes, strict=True)]).sum(0)

    def diagonal(self) -> Tensor:
        """Return the diagonal of the form that `pull` applies, [members, in]."""
        own = self.gram * (self.owner @ self.owner.mT)
        inside, known = (one.square().sum(1) for one in (torch.cat(self.probes, 1), self.known))
        return self.owner.mT @ (self.down * (own @ self.down)) * (inside + len(self.probes) * (1.0 - known))

    def _fold(self, seen: Tensor) -> Tensor:
        return self.owner.mT @ (self.down * (self.gram @ seen))


def _onto(rows: Tensor, probe: Tensor) -> Tensor:
    return rows @ probe @ probe.mT
