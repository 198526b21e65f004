"""The door of `Plan.before_step`: what a plan may see of the model between steps."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from composer.plan import Attention, Pass, Step
from pipelines.denoiser import Denoiser, Tally

if TYPE_CHECKING:
    from pipelines.batch import Live


@dataclass(frozen=True, eq=False)
class Looking:
    """The door of `Plan.before_step`, for one request at one step."""

    live: Live
    step: Step
    denoiser: Denoiser

    def attention(self, latents: Tensor, passes: Sequence[Pass]) -> list[Attention]:
        self.live.tally.looks += len(passes)
        return self.denoiser.look(self.live.asks(self.step, passes, self.live.solver.scale_input(latents, self.step)))

    def slope(
        self, latents: Tensor, passes: Sequence[Pass], loss: Callable[[Sequence[Attention]], Tensor]
    ) -> tuple[float, Tensor]:
        with torch.enable_grad():
            leaf = latents.detach().requires_grad_(True)
            found = loss(self.attention(leaf, passes))
            (slope,) = torch.autograd.grad(found, leaf)
        self.live.tally.slopes += len(passes)
        return float(found), slope

    def ahead(self, latents: Tensor, one: Pass, count: int) -> Attention:
        solver = copy.deepcopy(self.live.solver)  # with its generator: what is drawn ahead is drawn again later
        steps = solver.steps[self.step.index : self.step.index + count]
        told: Attention | None = None
        for step in steps:
            wish = replace(one, capture=step is steps[-1])
            (asked,) = self.live.asks(step, [wish], solver.scale_input(latents, step))
            (found,) = self.denoiser.predict([replace(asked, tally=Tally())])
            latents, told = self.live.advance(solver, found, step, latents), found.attention
        self.live.tally.looks += len(steps)
        if told is None:
            raise ValueError(f"{count} steps ahead of step {self.step.index} are none")
        return told
