"""Muon (Jordan et al. 2024) for convolutions and matrices, AdamW for the rest: far fewer steps on small networks.

torch's own Muon takes matrices only and orthogonalises in bfloat16, which CPUs without such units do very slowly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Return roughly U V^T of a matrix [rows, columns], by Newton-Schulz rounds."""
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x if wide else x.T


class Muon(torch.optim.Optimizer):
    """Muon on every weight of two or more dimensions that `hidden` admits; AdamW on all others, at `lr` * `ratio`."""

    def __init__(self, module: nn.Module, lr: float, ratio: float = 0.1, weight_decay: float = 0.01) -> None:
        named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
        matrices = [p for n, p in named if p.ndim >= 2 and not _edge(n)]
        others = [p for n, p in named if p.ndim < 2 or _edge(n)]
        super().__init__([{"params": matrices}, {"params": []}], {"lr": lr, "weight_decay": weight_decay})
        self._adam = torch.optim.AdamW(others, lr * ratio, (0.9, 0.99), weight_decay=0.0)
        self._ratio = ratio

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore  # no closure is used here
        group = self.param_groups[0]
        for p in group["params"]:
            if p.grad is not None:
                self._move(p, group["lr"], group["weight_decay"])
        self._adam.param_groups[0]["lr"] = group["lr"] * self._ratio
        self._adam.step()

    def _move(self, p: Tensor, lr: float, weight_decay: float) -> None:
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        momentum: Tensor = state["momentum"]
        momentum.lerp_(p.grad, 0.05)
        ahead = torch.lerp(p.grad, momentum, 0.95)
        flat = ahead.permute(0, 2, 3, 1) if ahead.ndim == 4 else ahead
        turned = orthogonal(flat.reshape(len(p), -1)).reshape(flat.shape)
        turned = turned.permute(0, 3, 1, 2) if ahead.ndim == 4 else turned
        columns = p.numel() // len(p)
        p.mul_(1 - lr * weight_decay).add_(turned, alpha=-lr * max(1.0, len(p) / columns) ** 0.5)

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        self._adam.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"muon": super().state_dict(), "adam": self._adam.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict["muon"])
        self._adam.load_state_dict(state_dict["adam"])


def _edge(name: str) -> bool:
    """First and last layers and embeddings are steered better by Adam."""
    return "embed" in name or name.startswith(("conv_in", "conv_out")) or name.endswith("positional_embedding")
