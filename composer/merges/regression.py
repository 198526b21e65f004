"""Merging by least squares on what reaches a layer: gradient fusion (arXiv:2305.18292) and SSR (arXiv:2606.10617).

X_i are the inputs of a layer while member i is at work. Among all deltas, gradient fusion takes the one that does to
them what each member does alone:

    delta = argmin sum_i || delta X_i - delta_i X_i ||^2 + ridge ||delta||^2 = (sum_i delta_i X_i X_i^T) G^-1,
    G = sum_i X_i X_i^T + ridge

With delta_i = up_i down_i and the ups side by side this is up @ (cross @ G^-1), where the rows of cross are those of
down_i X_i X_i^T: a LoRA of rank sum r_i, exactly, with nothing to decompose. SSR takes the best delta of the form
up @ R @ down, with the downs one below another: the same equations, in which z = down @ x stands for x.

Inputs stream past and only the products on the right are kept, in float64. The ridge is relative to the mean of G's
diagonal, so that no scale of inputs or members has a part in it. A member that lacks the layer has a delta of zero
there, and its inputs count: it is a member that wants the layer left alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from composer.merges.common import solve, split, stacked
from lora_zoo.adapter import LowRank


class Regression:
    """One layer's members and what has been seen of its inputs."""

    def __init__(self, deltas: Mapping[int, LowRank], within: bool, device: torch.device | None = None) -> None:
        """Take member -> delta. `within` is SSR's form, which needs no more than [ranks, ranks] of memory."""
        self._whole = stacked(list(deltas.values()))
        self._up = self._whole.up.double().to(device)
        self._down = self._whole.down.flatten(1).double().to(device)
        places = split(torch.arange(self._whole.rank), [delta.rank for delta in deltas.values()], 0)
        self._rows = {member: slice(int(p[0]), int(p[-1]) + 1) for member, p in zip(deltas, places, strict=True)}
        self._routed = _Products(self._whole.rank, self._whole.rank, device)
        self._full = None if within else _Products(self._whole.rank, self._down.shape[1], device)

    def see(self, member: int, inputs: Tensor) -> None:
        """Count inputs [n, in] that the layer had while this member was at work."""
        seen = inputs.double()
        answers = seen @ self._down.mT
        rows = self._rows.get(member, slice(0, 0))
        self._routed.add(rows, answers, answers)
        if self._full is not None:
            self._full.add(rows, answers, seen)

    def coefficients(self, ridge: float) -> Tensor:
        """Return SSR's R [ranks, ranks], or with gradient fusion the merged delta's down [ranks, in]; float64."""
        return (self._full or self._routed).solve(ridge)

    def solve(self, ridge: float) -> LowRank:
        """Return the merged delta."""
        found = self.coefficients(ridge)
        down = found if self._full is not None else found @ self._down
        return LowRank(down.float().cpu().reshape(self._whole.down.shape), self._whole.up)

    def errors(self, ridge: float) -> tuple[float, float, float]:
        """Return squared norms over all that was seen: of what merged and sum do wrong, and of what is wanted."""
        wanted = torch.zeros_like(self._routed.cross)
        for rows in self._rows.values():
            wanted[rows, rows] = self._routed.cross[rows, rows]
        taken = self._full or self._routed
        fitted = taken.distance(self.coefficients(ridge), wanted)
        plain = self._routed.distance(torch.eye(len(wanted), dtype=wanted.dtype, device=wanted.device), wanted)
        weigh = self._up.mT @ self._up
        return float((weigh * fitted).sum()), float((weigh * plain).sum()), float((weigh * wanted).sum())


class _Products:
    """Sums over inputs z, of z z^T and of (a member's own answers, in the rows of that member) z^T."""

    def __init__(self, ranks: int, size: int, device: torch.device | None) -> None:
        self.gram = torch.zeros(size, size, dtype=torch.float64, device=device)
        self.cross = torch.zeros(ranks, size, dtype=torch.float64, device=device)

    def add(self, rows: slice, answers: Tensor, seen: Tensor) -> None:
        self.gram += seen.mT @ seen
        self.cross[rows] += answers[:, rows].mT @ seen

    def solve(self, ridge: float) -> Tensor:
        diagonal = self.gram.diagonal()
        least = ridge * float(diagonal.mean()) or 1.0  # without any input, anything solves it: nothing is taken
        eye = torch.eye(len(diagonal), dtype=self.gram.dtype, device=self.gram.device)
        return solve(self.gram + least * eye, self.cross.mT).mT

    def distance(self, found: Tensor, wanted: Tensor) -> Tensor:
        """Return the sum of e e^T over all inputs, e = found @ z - the answers wanted; [ranks, ranks]."""
        mixed = found @ self.cross.mT
        return found @ self.gram @ found.mT - mixed - mixed.mT + wanted
