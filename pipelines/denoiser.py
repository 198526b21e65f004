"""Passes -> rows -> UNet calls -> predictions. The only code that opens the UNet's gate.

A pass is two rows with guidance, one without. Rows of any requests share a call if their latents have the same shape
and they read as many prompts; their timesteps, prompts and adapters may all differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from composer.masks import Mask
from composer.plan import Prediction
from pipelines.bank import Gate
from pipelines.batching import deal
from pipelines.local import LocalGate
from pipelines.model import LoadedModel
from pipelines.progress import Cancel


@dataclass(eq=False)
class Tally:
    """What one picture has cost so far."""

    unet_passes: int = 0
    unet_calls: int = 0
    rows_per_call: int = 0  # of the largest call it shared


@dataclass(frozen=True, eq=False)
class Ask:
    """One pass, with all that the UNet needs to answer it."""

    latents: Tensor  # [1, channels, h, w], as the UNet reads them at this timestep
    timestep: float
    cond: Tensor  # [1, tokens, width], the prompts of areas after the pass's own
    uncond: Tensor | None  # None: no guidance
    gate: Gate
    tally: Tally
    areas: tuple[Mask, ...] = ()  # where the prompts after the first are read
    local: LocalGate = ()  # what acts in areas only

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
        by_shape: dict[tuple[torch.Size, int], list[int]] = {}
        for place, ask in enumerate(asks):
            by_shape.setdefault((ask.latents.shape, len(ask.areas)), []).append(place)
        answers: dict[int, Prediction] = {}
        for places in by_shape.values():
            for call in deal(places, lambda place: asks[place].rows, self._max_rows):
                answers.update(zip(call, self._call([asks[place] for place in call]), strict=True))
        return [answers[place] for place in range(len(asks))]

    def _call(self, asks: Sequence[Ask]) -> list[Prediction]:
        """Run the UNet once: first the unconditional rows, then the conditional ones.

        In this order the gates of guided passes repeat, which lets the bank use each adapter's factors once.
        """
        self._cancel.check()
        guided = [ask for ask in asks if ask.uncond is not None]
        order = [*guided, *guided, *(ask for ask in asks if ask.uncond is None)]
        unconds = [ask.uncond for ask in guided if ask.uncond is not None]
        embeds = torch.cat([*unconds, *(ask.cond for ask in order[len(guided) :])])
        latents = torch.cat([ask.latents for ask in order])
        timesteps = torch.tensor([ask.timestep for ask in order], device=latents.device)
        with self._opened(order):
            noise = self._model.predict_noise(latents, timesteps, embeds).split(1)
        self._count(asks, len(order))
        conds = {id(ask): row for ask, row in zip(order[len(guided) :], noise[len(guided) :], strict=True)}
        firsts = {id(ask): row for ask, row in zip(guided, noise[: len(guided)], strict=True)}
        return [Prediction(conds[id(ask)], firsts.get(id(ask))) for ask in asks]

    @contextmanager
    def _opened(self, rows: Sequence[Ask]) -> Iterator[None]:
        """Open the doors that these rows need."""
        with ExitStack() as doors:
            doors.enter_context(self._model.bank.gate([ask.gate for ask in rows], [ask.local for ask in rows]))
            if rows[0].areas:
                height, width = rows[0].latents.shape[-2:]
                doors.enter_context(self._model.attention.areas([ask.areas for ask in rows], height, width))
            yield

    @staticmethod
    def _count(asks: Sequence[Ask], rows: int) -> None:
        for ask in asks:
            ask.tally.unet_passes += 1
        for tally in {id(ask.tally): ask.tally for ask in asks}.values():
            tally.unet_calls += 1
            tally.rows_per_call = max(tally.rows_per_call, rows)
