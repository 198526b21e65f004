"""Passes -> rows -> UNet calls -> predictions. The only code that opens the UNet's gate.

A pass is two rows with guidance; one without it, or if another pass has the unconditional row. Rows of any requests
share a call if their latents and prompts have the same shapes; their timesteps, prompts and adapters may all differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from composer.plan import Prediction
from pipelines.bank import Gate
from pipelines.batching import deal
from pipelines.model import UNET, LoadedModel
from pipelines.progress import Cancel
from pipelines.sdxl import added
from pipelines.text import Context


@dataclass(eq=False)
class Tally:
    """What one picture has cost so far."""

    unet_passes: int = 0
    unet_rows: int = 0
    unet_calls: int = 0
    rows_per_call: int = 0  # of the largest call it shared


@dataclass(frozen=True, eq=False)
class Ask:
    """One pass, with all that the UNet needs to answer it."""

    latents: Tensor  # [1, channels, h, w], as the UNet reads them at this timestep
    timestep: float
    cond: Context
    uncond: Context | None  # None: no unconditional row
    time_ids: tuple[int, ...]  # sizes that SDXL is told
    gate: Gate
    uncond_gate: Gate
    tally: Tally

    @property
    def rows(self) -> int:
        return 1 if self.uncond is None else 2


class Denoiser:
    """Answers passes, in calls of at most `max_rows` rows."""

    def __init__(self, model: LoadedModel, max_rows: int, cancel: Cancel) -> None:
        self._model = model
        self._max_rows = max_rows
        self._cancel = cancel

    def predict(self, asks: Sequence[Ask]) -> list[Prediction]:
        """Return the predictions of passes, in their order."""
        by_shape: dict[tuple[torch.Size, torch.Size], list[int]] = {}
        for place, ask in enumerate(asks):
            by_shape.setdefault((ask.latents.shape, ask.cond.embeds.shape), []).append(place)
        answers: dict[int, Prediction] = {}
        for places in by_shape.values():
            for call in deal(places, lambda place: asks[place].rows, self._max_rows):
                answers.update(zip(call, self._call([asks[place] for place in call]), strict=True))
        return [answers[place] for place in range(len(asks))]

    def _call(self, asks: Sequence[Ask]) -> list[Prediction]:
        """Run the UNet once: first the unconditional rows, then the conditional ones.

        In this order the gates of guided passes mostly repeat, which lets the bank use each adapter's factors once.
        """
        self._cancel.check()
        guided = [ask for ask in asks if ask.uncond is not None]
        order = [*guided, *guided, *(ask for ask in asks if ask.uncond is None)]
        unconds = [ask.uncond for ask in guided if ask.uncond is not None]
        texts = [*unconds, *(ask.cond for ask in order[len(guided) :])]
        embeds = torch.cat([one.embeds for one in texts])
        latents = torch.cat([ask.latents for ask in order])
        timesteps = torch.tensor([ask.timestep for ask in order], device=latents.device)
        gates = [*(ask.uncond_gate for ask in guided), *(ask.gate for ask in order[len(guided) :])]
        beside = added(texts, [ask.time_ids for ask in order])
        self._model.bring(UNET)
        with self._model.bank.gate(gates):
            noise = self._model.predict_noise(latents, timesteps, embeds, beside).split(1)
        self._count(asks, len(order))
        conds = {id(ask): row for ask, row in zip(order[len(guided) :], noise[len(guided) :], strict=True)}
        firsts = {id(ask): row for ask, row in zip(guided, noise[: len(guided)], strict=True)}
        return [Prediction(conds[id(ask)], firsts.get(id(ask))) for ask in asks]

    @staticmethod
    def _count(asks: Sequence[Ask], rows: int) -> None:
        for ask in asks:
            ask.tally.unet_passes += 1
            ask.tally.unet_rows += ask.rows
        for tally in {id(ask.tally): ask.tally for ask in asks}.values():
            tally.unet_calls += 1
            tally.rows_per_call = max(tally.rows_per_call, rows)
