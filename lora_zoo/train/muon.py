"""Muon (Jordan et al. 2024) for convolutions and matrices, AdamW for the rest: far fewer steps on small networks.

torch's own Muon takes matrices only and orthogonalises in bfloat16, which CPUs without such units do very slowly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def orthogonal(matrices: Tensor, rounds: int = 5) -> Tensor:
    """Return roughly U V^T of each matrix of a stack [n, rows, columns], by Newton-Schulz rounds."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(rounds):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x if wide else x.mT


class Muon(torch.optim.Optimizer):
    """Muon on every weight of two or more dimensions that `hidden` admits; AdamW on all others, at `lr` * `ratio`."""

    def __init__(self, module: nn.Module, lr: float, ratio: float = 0.1, weight_decay: float = 0.01) -> None:
        named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
        matrices = [p for n, p in named if p.ndim >= 2 and not _edge(n)]
        others = [p for n, p in named if p.ndim < 2 or _edge(n)]
        super().__init__([{"params": matrices}, {"params": []}], {"lr": lr, "weight_decay": weight_decay})
        self._adam = torch.optim.AdamW(others, lr * ratio, (0.9, 0.99), weight_decay=0.0) if others else None
        self._ratio = ratio

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore  # no closure is used here
        group = self.param_groups[0]
        alike: dict[tuple[int, int], list[Tensor]] = {}
        for p in group["params"]:
            if p.grad is not None:
                alike.setdefault((len(p), p.numel() // len(p)), []).append(p)
        for (rows, columns), weights in alike.items():
            turned = orthogonal(torch.stack([self._ahead(p) for p in weights]))
            rate = group["lr"] * max(1.0, rows / columns) ** 0.5
            for p, change in zip(weights, turned, strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(_like(change, p), alpha=-rate)
        if self._adam is not None:
            self._adam.param_groups[0]["lr"] = group["lr"] * self._ratio
            self._adam.step()

    def _ahead(self, p: Tensor) -> Tensor:
        """Return the momentum's look-ahead as a matrix [rows, columns]."""
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        momentum: Tensor = state["momentum"]
        assert p.grad is not None
        momentum.lerp_(p.grad, 0.05)
        ahead = torch.lerp(p.grad, momentum, 0.95)
        return (ahead.permute(0, 2, 3, 1) if ahead.ndim == 4 else ahead).reshape(len(p), -1)

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        if self._adam is not None:
            self._adam.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"muon": super().state_dict(), "adam": self._adam.state_dict() if self._adam else {}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict["muon"])
        if self._adam is not None:
            self._adam.load_state_dict(state_dict["adam"])


def _like(matrix: Tensor, p: Tensor) -> Tensor:
    """Return a matrix in the shape of a weight, convolutions with their channels last."""
    if p.ndim != 4:
        return matrix.reshape(p.shape)
    outer, inner, high, wide = p.shape
    return matrix.reshape(outer, high, wide, inner).permute(0, 3, 1, 2)


def _edge(name: str) -> bool:
    """First and last layers and embeddings are steered better by Adam."""
    return "embed" in name or name.startswith(("conv_in", "conv_out")) or name.endswith("positional_embedding")
