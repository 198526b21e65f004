"""What a rendering will take, counted without a model: passes, rows, UNet calls, arithmetic, memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from composer.plan import Pass, Plan, Step
from pipelines.batching import deal
from pipelines.flops import Latents, ModelCost
from pipelines.lengths import Lengths
from pipelines.resolve import Resolved
from pipelines.specs import ModelSpec

_WHOLE = -1
_BYTES = 4  # of a value, on a processor; half of it in half precision
_LOOK = 2  # rows of a whole pass that a look takes at most: a call ended early with its slope, or one pass ahead


@dataclass(frozen=True)
class Cost:
    """What a rendering will take, counted without a model."""

    unet_passes: int  # evaluations the methods ask for, with or without an unconditional row
    unet_rows: int  # samples that go through the UNet
    unet_calls: int
    shallow_passes: int = 0  # on deep features of an earlier step; their rows are not among the above
    looks: int = 0  # evaluations between steps, at most; their calls are not among the above
    gflop: float = field(default=0.0, compare=False)  # texts, UNet, decoder; products of LoRAs left out
    pass_gflop: float = field(default=0.0, compare=False)  # of the largest pass, which no UNet call can divide
    memory: int = field(default=0, compare=False)  # bytes beyond model and LoRAs in single precision, at the peak

    def __add__(self, other: Cost) -> Cost:
        """Return what two renderings take, one after the other."""
        both = {one.name: (getattr(self, one.name), getattr(other, one.name)) for one in fields(self)}
        peaks = {name: max(both.pop(name)) for name in ("pass_gflop", "memory")}
        return Cost(**{name: sum(pair) for name, pair in both.items()}, **peaks)


def price(resolved: Sequence[Resolved], max_rows: int) -> Cost:
    """Count what requests of one model, rendered together, take, by asking their plans; none of both take nothing."""
    if not resolved:
        return Cost(0, 0, 0)
    seconds = [one.second for one in resolved if one.second is not None]
    first = _Bill(resolved, max_rows).cost()
    return first + _Bill(seconds, max_rows).cost() if seconds else first


def shares(resolved: Sequence[Resolved]) -> list[float]:
    """Return each request's part of the time that all take together, by what each takes alone; they sum to 1."""
    if len(resolved) == 1:
        return [1.0]
    parts = [price([one], 1).gflop for one in resolved]
    return [part / sum(parts) for part in parts]


def usual_gflop(spec: ModelSpec) -> float:
    """Return the GFLOP of a usual picture of a model: its own size and steps, guided, one pass for each step."""
    model = ModelCost.of(spec.configs)
    height, width = spec.height // spec.latent_factor, spec.width // spec.latent_factor
    row = model.unet.row(Latents(height, width, model.chunk))
    whole = 2 * spec.defaults.num_inference_steps * row + model.decoder.picture(height, width).flop + 2 * model.text
    return whole / 1e9


class _Bill:
    """What is counted of requests that take their first or second steps together."""

    def __init__(self, resolved: Sequence[Resolved], max_rows: int) -> None:
        self._max_rows = max_rows
        self._model = ModelCost.of(resolved[0].spec.configs)
        self._stands = [_Stand(one, self._model) for one in resolved]
        self._passes = self._rows = self._calls = self._shallow = self._looks = 0
        self._flop = self._pass_flop = 0.0
        self._held = 0.0  # values

    def cost(self) -> Cost:
        for index in range(max(len(stand.steps) for stand in self._stands)):
            self._step([stand for stand in self._stands if index < len(stand.steps)], index)
        for stand in self._stands:
            found = self._model.decoder.picture(stand.one.job.height, stand.one.job.width)
            self._flop += stand.pictures * found.flop + stand.lengths.chunks * self._model.text
            self._held = max(self._held, found.held)
        counts = self._passes, self._rows, self._calls, self._shallow, self._looks
        return Cost(*counts, self._flop / 1e9, self._pass_flop / 1e9, round(self._held * _BYTES))

    def _step(self, stands: Sequence[_Stand], index: int) -> None:
        """Count one step of all that are under way."""
        wanted: dict[tuple[int, ...], list[_Asked]] = {}
        for stand in stands:
            step, largest = stand.steps[index], 0.0
            for found in stand.plan.passes(step):
                asked = stand.asked(found)
                wanted.setdefault(asked.alike, []).append(asked)
                largest = max(largest, asked.whole)
            looks = stand.plan.looks(step)
            self._looks += looks
            self._flop += looks * _LOOK * largest
        for asked in wanted.values():
            self._group(asked)

    def _group(self, asked: Sequence[_Asked]) -> None:
        """Count passes that share UNet calls."""
        dealt = deal(asked, lambda one: one.rows, self._max_rows)
        self._calls += len(dealt)
        for one in asked:
            self._flop += one.rows * one.row
            self._pass_flop = max(self._pass_flop, one.rows * one.row)
        self._held = max(self._held, *(sum(one.rows * one.held for one in call) for call in dealt))
        if asked[0].part == _WHOLE:
            self._passes += len(asked)
            self._rows += sum(one.rows for one in asked)
        else:
            self._shallow += len(asked)


@dataclass(frozen=True)
class _Asked:
    """One pass of one step: what it must have in common with others to share a call, and what it takes."""

    alike: tuple[int, ...]
    part: int  # of the UNet
    rows: int
    row: float  # FLOP of each
    whole: float  # FLOP of a row, were all of the UNet computed
    held: float  # values that each row holds at a time


class _Stand:
    """One request under way, as far as it is known without a model."""

    def __init__(self, one: Resolved, model: ModelCost) -> None:
        self.one = one
        self.plan: Plan = one.plan()
        self.lengths = Lengths(one, self.plan.prompts)
        self.steps = steps_of(one.count)
        self._unet = model.unet
        self._chunk = model.chunk
        self._known: dict[tuple[int, ...], _Asked] = {}

    @property
    def pictures(self) -> int:
        """Return how many pictures are decoded or encoded: the one made, what it begins with, what is enlarged."""
        hires = self.one.request.hires
        return 1 + (self.one.canvas is not None) + 2 * (hires is not None and hires.upscaler == "pixels")

    def asked(self, found: Pass) -> _Asked:
        job, alone = self.one.job, sum(area.alone for area in found.areas)
        chunks, rows, part = self.lengths.of(found), self.one.rows(found), _part(found)
        key = (job.height, job.width, len(found.areas), chunks, part, rows, alone)
        if key not in self._known:
            latents, unet = Latents(job.height, job.width, chunks * self._chunk), self._unet
            whole = unet.row(latents)
            row = whole if part == _WHOLE else unet.shallow(latents, part)
            held = unet.held(latents) + (unet.square(latents) if alone else 0.0)
            self._known[key] = _Asked(key[:5], part, rows, row, whole, held)
        return self._known[key]


def _part(one: Pass) -> int:
    """Return which part of the UNet a pass computes."""
    return one.reuse.layers if one.reuse is not None and one.shallow else _WHOLE


def steps_of(count: int) -> list[Step]:
    """Return steps as a scheduler would; none is built for a dry run, and a straight line stands for noise levels."""
    return [Step(index, count, 999.0 * (1.0 - index / count), 1.0 - index / count) for index in range(count)]
