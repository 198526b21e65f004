"""Passes -> rows -> UNet calls -> predictions. The only code that opens the UNet's gate.

A pass is two rows with guidance, one without. Rows of any requests share a call if their latents have the same shape,
they read as many prompts, and they compute the same part of the UNet; timesteps, prompts and adapters may all differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from composer.masks import Mask
from composer.plan import Prediction, Reuse
from pipelines.bank import Gate
from pipelines.batching import deal
from pipelines.local import LocalGate
from pipelines.model import LoadedModel
from pipelines.progress import Cancel

#: Deep features of a pass's rows, unconditional first, [1, channels, h, w] each.
Kept = tuple[Tensor, ...]


@dataclass(eq=False)
class Tally:
    """What one picture has cost so far."""

    unet_passes: int = 0
    shallow_passes: int = 0
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
    reuse: Reuse | None = None
    slots: dict[str, Kept] = field(default_factory=dict[str, "Kept"])  # of the request

    @property
    def shallow(self) -> bool:
        return self.reuse is not None and not self.reuse.refresh

    @property
    def alike(self) -> tuple[object, ...]:
        """What passes must have in common to share a call."""
        return (
            self.latents.shape,
            len(self.areas),
            self.shallow,
            self.reuse.layers if self.reuse and self.shallow else 0,
        )

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
        alike: dict[tuple[object, ...], list[int]] = {}
        for place, ask in enumerate(asks):
            alike.setdefault(ask.alike, []).append(place)
        answers: dict[int, Prediction] = {}
        for places in alike.values():
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
        with self._opened(order) as deep:
            noise = self._model.predict_noise(latents, timesteps, embeds).split(1)
        self._keep(order, deep)
        self._count(asks, len(order))
        conds = {id(ask): row for ask, row in zip(order[len(guided) :], noise[len(guided) :], strict=True)}
        firsts = {id(ask): row for ask, row in zip(guided, noise[: len(guided)], strict=True)}
        return [Prediction(conds[id(ask)], firsts.get(id(ask))) for ask in asks]

    @contextmanager
    def _opened(self, rows: Sequence[Ask]) -> Iterator[Mapping[int, Tensor]]:
        """Open the doors that these rows need; yield what the call finds of deep features, by layers."""
        model, found = self._model, dict[int, Tensor]()
        with ExitStack() as doors:
            doors.enter_context(model.bank.gate([ask.gate for ask in rows], [ask.local for ask in rows]))
            if rows[0].areas:
                height, width = rows[0].latents.shape[-2:]
                doors.enter_context(model.attention.areas([ask.areas for ask in rows], height, width))
            if rows[0].shallow:
                doors.enter_context(model.features.shallow(*_taken(rows)))
                yield found
                return
            layers = {ask.reuse.layers for ask in rows if ask.reuse is not None}
            yield doors.enter_context(model.features.kept(layers)) if layers else found

    def _keep(self, rows: Sequence[Ask], deep: Mapping[int, Tensor]) -> None:
        """Put deep features into the slots of the passes that refresh; a slot holds a pass's rows in their order."""
        refreshed: dict[tuple[int, str], list[Tensor]] = {}
        for place, ask in enumerate(rows):
            if ask.reuse is not None and ask.reuse.refresh:
                features = deep[self._model.features.layers(ask.reuse.layers)][place : place + 1]
                kept = refreshed.setdefault((id(ask), ask.reuse.slot), [])
                kept.append(features.clone())
                ask.slots[ask.reuse.slot] = tuple(kept)

    @staticmethod
    def _count(asks: Sequence[Ask], rows: int) -> None:
        for ask in asks:
            if ask.shallow:
                ask.tally.shallow_passes += 1
            else:
                ask.tally.unet_passes += 1
        for tally in {id(ask.tally): ask.tally for ask in asks}.values():
            tally.unet_calls += 1
            tally.rows_per_call = max(tally.rows_per_call, rows)


def _taken(rows: Sequence[Ask]) -> tuple[int, Tensor]:
    """Return how many layers shallow rows compute, and what they begin with."""
    seen: Counter[int] = Counter()
    taken: list[Tensor] = []
    for ask in rows:
        if ask.reuse is None or ask.reuse.slot not in ask.slots:
            raise RuntimeError(f"a pass takes deep features that none has kept: {ask.reuse}")
        taken.append(ask.slots[ask.reuse.slot][seen[id(ask)]])
        seen[id(ask)] += 1
    return rows[0].reuse.layers if rows[0].reuse else 0, torch.cat(taken)
