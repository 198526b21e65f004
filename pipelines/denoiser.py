"""Passes -> rows -> UNet calls -> predictions. The only code that opens the UNet's gate.

A pass is two rows with guidance; one without it, or if another pass has the unconditional row. Rows of any requests
share a call if their latents and texts have the same shapes, they read as many prompts, and they compute the same part
of the UNet; timesteps, prompts and adapters may all differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from composer.plan import Attention, Pass, Prediction
from pipelines.attention import RowWish, Spot
from pipelines.bank import Gate
from pipelines.captured import Captured, Enough
from pipelines.local import LocalGate
from pipelines.model import UNET, LoadedModel
from pipelines.progress import Cancel
from pipelines.reading import Conditioning
from pipelines.room import Room
from pipelines.sdxl import added
from pipelines.text import Context

#: Deep features of a pass's rows, unconditional first, [1, channels, h, w] each.
Kept = tuple[Tensor, ...]


@dataclass(eq=False)
class Tally:
    """What one picture has cost so far."""

    unet_passes: int = 0
    unet_rows: int = 0
    shallow_passes: int = 0
    looks: int = 0  # passes run to see what they read, not for a prediction that the picture is made of
    slopes: int = 0  # of these, those with a gradient
    unet_calls: int = 0
    rows_per_call: int = 0  # of the largest call it shared


@dataclass(frozen=True, eq=False)
class Ask:
    """One pass, with all that the UNet needs to answer it."""

    latents: Tensor  # [1, channels, h, w], as the UNet reads them at this timestep
    timestep: float
    read: Conditioning  # the prompts of areas after the pass's own
    time_ids: tuple[int, ...]  # sizes that SDXL is told
    gate: Gate
    uncond_gate: Gate
    tally: Tally
    wish: Pass  # what else it asks for
    local: LocalGate = ()  # what acts in areas only
    slots: dict[str, Kept] = field(default_factory=dict[str, "Kept"])  # of the request

    @property
    def uncond(self) -> Context | None:
        """What the unconditional row reads; None: there is no such row."""
        return None if self.wish.uncond == "off" else self.read.uncond

    @property
    def uncond_local(self) -> LocalGate:
        """What acts in areas of the unconditional row, unless the pass says what acts there; on all words."""
        acting = self.local if isinstance(self.wish.uncond, str) else ()
        return tuple(replace(one, where=replace(one.where, without=())) for one in acting)

    @property
    def alike(self) -> tuple[object, ...]:
        """What passes must have in common to share a call."""
        taken = self.wish.reuse if self.wish.shallow else None
        shapes = self.latents.shape, self.read.cond.embeds.shape
        return *shapes, len(self.wish.areas), None if taken is None else taken.layers

    @property
    def rows(self) -> int:
        return 1 if self.uncond is None else 2

    @property
    def uncond_reading(self) -> RowWish:
        """What the unconditional row wants of attention layers: its words are others, and nothing leans to them."""
        return RowWish(tuple(Spot(area.mask, area.alone) for area in self.wish.areas))

    @property
    def reading(self) -> RowWish:
        """What the conditional row wants of attention layers."""
        areas, tells = self.wish.areas, self.wish.capture
        length = self.read.cond.embeds.shape[1] // (1 + len(areas))
        leans = [
            tuple((token, by) for words, by in area.leans for token in read.tokens_of(words, length))
            for area, read in zip(areas, self.read.areas, strict=True)
        ]
        spots = tuple(Spot(area.mask, area.alone, lean) for area, lean in zip(areas, leans, strict=True))
        return RowWish(spots, tells, tells and self.wish.places)


class Denoiser:
    """Answers passes, in calls of as many rows as there is room for."""

    def __init__(self, model: LoadedModel, room: Room, cancel: Cancel) -> None:
        self._model = model
        self._room = room
        self._cancel = cancel

    def predict(self, asks: Sequence[Ask]) -> list[Prediction]:
        """Return the predictions of passes, in their order."""
        answers: dict[int, Prediction] = {}
        for group in _groups(asks):
            for ask, answer in self._room.answers(group, lambda ask: ask.rows, self._call):
                answers[id(ask)] = answer
        return [answers[id(ask)] for ask in asks]

    def _call(self, asks: Sequence[Ask]) -> list[Prediction]:
        """Run the UNet once: first the unconditional rows, then the conditional ones.

        In this order the gates of guided passes mostly repeat, which lets the bank use each adapter's factors once.
        """
        self._cancel.check()
        guided = [ask for ask in asks if ask.uncond is not None]
        order = [*guided, *guided, *(ask for ask in asks if ask.uncond is None)]
        unconds = [ask.uncond for ask in guided if ask.uncond is not None]
        texts = [*unconds, *(ask.read.cond for ask in order[len(guided) :])]
        with self._opened(order, len(guided)) as found:
            noise = self._run(order, texts).split(1)
        self._keep(order, found.deep)
        conds = {id(ask): row for ask, row in zip(order[len(guided) :], noise[len(guided) :], strict=True)}
        firsts = {id(ask): row for ask, row in zip(guided, noise[: len(guided)], strict=True)}
        attention = found.attention(order)
        self._count(asks, len(order))  # last, for a call that fails anywhere is made again
        return [Prediction(conds[id(ask)], firsts.get(id(ask)), attention.get(id(ask))) for ask in asks]

    def look(self, asks: Sequence[Ask]) -> list[Attention]:
        """Return what the conditional rows of passes read, running the UNet no further; gradients may pass through."""
        answers: dict[int, Attention] = {}
        for group in _groups(asks):
            for ask, answer in self._room.answers(group, lambda _ask: 1, self._look):
                answers[id(ask)] = answer
        return [answers[id(ask)] for ask in asks]

    def _look(self, asks: Sequence[Ask]) -> list[Attention]:
        self._cancel.check()
        self._model.bring(UNET)
        wishes = [replace(ask.reading, tells=True, places=ask.wish.places) for ask in asks]
        with self._model.bank.gate([ask.gate for ask in asks], [ask.local for ask in asks]):
            height, width = asks[0].latents.shape[-2:]
            with self._model.attention.opened(wishes, height, width, ends=True) as captured:
                with suppress(Enough):
                    self._run(asks, [ask.read.cond for ask in asks])
        answers = _Found({}, captured).attention(asks)
        return [answers[id(ask)] for ask in asks]

    def _run(self, rows: Sequence[Ask], texts: Sequence[Context]) -> Tensor:
        """Return what the UNet says to rows that read these texts."""
        latents = torch.cat([ask.latents for ask in rows])
        timesteps = torch.tensor([ask.timestep for ask in rows], device=latents.device)
        beside = added(texts, [ask.time_ids for ask in rows])
        return self._model.predict_noise(latents, timesteps, torch.cat([one.embeds for one in texts]), beside)

    @contextmanager
    def _opened(self, rows: Sequence[Ask], conds: int) -> Iterator[_Found]:
        """Open the doors that these rows need; those from `conds` on are conditional."""
        model = self._model
        model.bring(UNET)
        gates = [*(ask.uncond_gate for ask in rows[:conds]), *(ask.gate for ask in rows[conds:])]
        local = [*(ask.uncond_local for ask in rows[:conds]), *(ask.local for ask in rows[conds:])]
        with ExitStack() as doors:
            doors.enter_context(model.bank.gate(gates, local))
            wishes = [*(ask.uncond_reading for ask in rows[:conds]), *(ask.reading for ask in rows[conds:])]
            height, width = rows[0].latents.shape[-2:]
            captured = doors.enter_context(model.attention.opened(wishes, height, width))
            if rows[0].wish.shallow:
                doors.enter_context(model.features.shallow(*_taken(rows)))
            layers = {ask.wish.reuse.layers for ask in rows if ask.wish.reuse is not None and not ask.wish.shallow}
            yield _Found(doors.enter_context(model.features.kept(layers)) if layers else {}, captured)

    def _keep(self, rows: Sequence[Ask], deep: Mapping[int, Tensor]) -> None:
        """Put deep features into the slots of the passes that refresh; a slot holds a pass's rows in their order."""
        refreshed: dict[tuple[int, str], list[Tensor]] = {}
        for place, ask in enumerate(rows):
            if ask.wish.reuse is not None and not ask.wish.shallow:
                features = deep[self._model.features.layers(ask.wish.reuse.layers)][place : place + 1]
                kept = refreshed.setdefault((id(ask), ask.wish.reuse.slot), [])
                kept.append(features.clone())
                ask.slots[ask.wish.reuse.slot] = tuple(kept)

    @staticmethod
    def _count(asks: Sequence[Ask], rows: int) -> None:
        for ask in asks:
            if ask.wish.shallow:
                ask.tally.shallow_passes += 1
            else:
                ask.tally.unet_passes += 1
                ask.tally.unet_rows += ask.rows
        for tally in {id(ask.tally): ask.tally for ask in asks}.values():
            tally.unet_calls += 1
            tally.rows_per_call = max(tally.rows_per_call, rows)


def _groups(asks: Sequence[Ask]) -> list[list[Ask]]:
    """Part passes into those that may share a call."""
    groups: dict[tuple[object, ...], list[Ask]] = {}
    for ask in asks:
        groups.setdefault(ask.alike, []).append(ask)
    return list(groups.values())


def _taken(rows: Sequence[Ask]) -> tuple[int, Tensor]:
    """Return how many layers shallow rows compute, and what they begin with."""
    seen: Counter[int] = Counter()
    taken: list[Tensor] = []
    layers = 0
    for ask in rows:
        if ask.wish.reuse is None or ask.wish.reuse.slot not in ask.slots:
            raise RuntimeError(f"a pass takes deep features that none has kept: {ask.wish.reuse}")
        taken.append(ask.slots[ask.wish.reuse.slot][seen[id(ask)] - ask.rows])  # from the end: its conditional row
        seen[id(ask)] += 1
        layers = ask.wish.reuse.layers
    return layers, torch.cat(taken)


@dataclass(frozen=True, eq=False)
class _Found:
    """What a call brought to light beside its predictions."""

    deep: Mapping[int, Tensor]  # deep features of all rows, by layers
    captured: Captured

    def attention(self, rows: Sequence[Ask]) -> dict[int, Attention]:
        """Return what was captured, by the id of its ask."""
        reads = {place: rows[place].read for place in self.captured.rows}
        told = self.captured.attention(reads, *rows[0].latents.shape[-2:])
        return {id(rows[place]): one for place, one in told.items()}
