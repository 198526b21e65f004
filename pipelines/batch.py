"""The loop: several requests, one model, one step at a time. It names no method."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib.metadata import version

import torch
from PIL import Image
from torch import Tensor

from composer.plan import Findings, Pass, Plan, Prediction, Step
from composer.record import RenderRecord
from composer.request import Hires
from composer.texts import TextEmbedding
from pipelines import begin, sources, text
from pipelines.denoiser import Ask, Denoiser, Kept, Tally
from pipelines.guidance import guide
from pipelines.held import Held
from pipelines.images import Rendering, pixels_sha256
from pipelines.interrupts import interrupted
from pipelines.looking import Looking
from pipelines.model import Decoded, LoadedModel
from pipelines.outlines import outlined
from pipelines.painting import Ground, enlarged, finished, ground
from pipelines.pricing import shares
from pipelines.progress import Cancel, OnStep, PictureProgress, StepReport
from pipelines.reading import Conditioning, PromptReader, together
from pipelines.resolve import Resolved
from pipelines.revision import revision
from pipelines.room import Room, told
from pipelines.schedulers import Solver
from pipelines.sdxl import time_ids
from pipelines.sources import AdapterSource

_VERSIONS_OF = ("torch", "diffusers", "transformers")


@dataclass(frozen=True, eq=False)
class Order:
    """What to render, from which LoRAs, in calls of how many rows at most, watched and stopped by whom."""

    resolved: Sequence[Resolved]
    source: AdapterSource
    max_rows: int
    on_step: OnStep | None
    cancel: Cancel


@dataclass(eq=False)
class Live:
    """One request under way. Everything that changes during it is here, and dies with it."""

    resolved: Resolved
    plan: Plan
    held: Held
    prompts: dict[str, Conditioning]
    texts: Mapping[str, TextEmbedding]  # that the method compares
    solver: Solver
    latents: Tensor  # [1, channels, h, w]
    notices: tuple[str, ...]
    time_ids: tuple[int, ...]  # what SDXL is told of sizes
    generator: torch.Generator
    ground: Ground | None = None  # what it begins with, if not with noise
    before: int = 0  # steps of the first pass, in the second
    tally: Tally = field(default_factory=Tally)
    slots: dict[str, Kept] = field(default_factory=dict[str, Kept])
    reads: dict[tuple[str, ...], Conditioning] = field(default_factory=dict[tuple[str, ...], Conditioning])
    estimate: Callable[[], Tensor] | None = None  # of the clean latents, by the last step's prediction

    def asks(self, step: Step, passes: Sequence[Pass], scaled: Tensor) -> list[Ask]:
        """Return a step's passes with all that the UNet needs; the latents as it reads them at this step."""
        height, width = scaled.shape[-2:]
        return [
            Ask(
                latents=scaled,
                timestep=step.timestep,
                time_ids=self.time_ids,
                read=self._read(one),
                gate=self.held.gate(one),
                uncond_gate=self.held.uncond_gate(one),
                tally=self.tally,
                wish=one,
                local=self.held.local(one, self._read(one), height, width),
                slots=self.slots,
            )
            for one in passes
        ]

    def advance(self, solver: Solver, prediction: Prediction, step: Step, latents: Tensor) -> Tensor:
        """Return the latents after a step with this prediction, guided as the request says."""
        return solver.advance(self._guided(prediction), step, latents)

    def clean(self, prediction: Prediction, step: Step, latents: Tensor) -> Tensor:
        """Return the clean latents that a step's prediction points at."""
        return self.solver.estimate(self._guided(prediction), step, latents)

    def _guided(self, prediction: Prediction) -> Tensor:
        request = self.resolved.request
        return guide(prediction, request.guidance_scale or 1.0, request.guidance_rescale)

    def _read(self, one: Pass) -> Conditioning:
        """Return what a pass reads, its areas' prompts joined to its own once."""
        keys = (one.prompt, *(area.prompt for area in one.areas))
        if keys not in self.reads:
            self.reads[keys] = together([self.prompts[key] for key in keys])
        return self.reads[keys]


@torch.no_grad()
def render(model: LoadedModel, order: Order) -> list[Rendering]:
    """Render an order while holding the model's lock."""
    with model.lock, told(model), interrupted(model, order.cancel.check):
        order.cancel.check()  # it may have been thrown while another rendering held the model
        started = time.perf_counter()
        live, room = _start(model, order), Room(model, order.max_rows)
        _run(model, order, live, dict(enumerate(live)), room)
        again = {
            place: _second(model, one, one.resolved.second) for place, one in enumerate(live) if one.resolved.second
        }
        _run(model, order, live, again, room)
        decoded = [_finished(model, again.get(place, one), one) for place, one in enumerate(live)]
        took = time.perf_counter() - started
        return [
            Rendering(
                picture.image, _record(model, one, picture, room, part * took), findings=_shown(one.plan.findings())
            )
            for one, picture, part in zip(live, decoded, shares(order.resolved), strict=True)
        ]


def _run(model: LoadedModel, order: Order, live: Sequence[Live], going: Mapping[int, Live], room: Room) -> None:
    """Take those that are going, by their places among all, through their steps."""
    for now in denoise(list(going.values()), Denoiser(model, room, order.cancel)):
        if order.on_step is not None:
            order.on_step(_report(model, live, going, now))
        order.cancel.check()


def _finished(model: LoadedModel, last: Live, first: Live) -> Decoded:
    picture = model.decode(last.latents)
    return replace(picture, image=finished(first.resolved.canvas, picture.image))


def denoise(live: Sequence[Live], denoiser: Denoiser) -> Iterator[int]:
    """Take all requests from noise to latents, one step per item; those with fewer steps are done earlier."""
    for index in range(max((len(one.solver.steps) for one in live), default=0)):
        now = [one for one in live if index < len(one.solver.steps)]
        steps = [one.solver.steps[index] for one in now]
        for one, step in zip(now, steps, strict=True):
            if one.plan.before_step is not None:
                one.latents = one.plan.before_step(step, one.latents, Looking(one, step, denoiser))
        wanted = [tuple(one.plan.passes(step)) for one, step in zip(now, steps, strict=True)]
        asks = [
            ask
            for one, step, passes in zip(now, steps, wanted, strict=True)
            for ask in one.asks(step, passes, one.solver.scale_input(one.latents, step))
        ]
        answers = iter(denoiser.predict(asks))
        _forget(live, asks)
        for one, step, passes in zip(now, steps, wanted, strict=True):
            mixed = one.plan.combine(step, passes, [next(answers) for _ in passes])
            one.estimate = partial(one.clean, mixed, step, one.latents)
            one.latents = one.advance(one.solver, mixed, step, one.latents)
            if one.ground is not None:
                one.latents = one.ground.keep(one.solver, one.latents, step.index)
        yield index


def _forget(live: Sequence[Live], asks: Sequence[Ask]) -> None:
    """Let go of merges that no longer act: weights that change over the steps make one in every step."""
    acting = {digest for ask in asks for digest, _ in (*ask.gate, *ask.uncond_gate)}
    held = {digest for one in live for digest in one.held.digests.values()}
    live[0].held.store.trim(frozenset(acting | held))  # all are of one model, whose store it is


def _start(model: LoadedModel, order: Order) -> list[Live]:
    """Load adapters, read prompts and draw noise; each request has a generator of its own."""
    reader = PromptReader(model)
    all_held = [_hold(model, order.source, one) for one in order.resolved]
    model.store.trim(frozenset(digest for held in all_held for digest in held.digests.values()))
    return [_begun(model, reader, one, held) for one, held in zip(order.resolved, all_held, strict=True)]


def _begun(model: LoadedModel, reader: PromptReader, one: Resolved, held: Held) -> Live:
    generator = torch.Generator("cpu").manual_seed(one.request.seed)
    begun = begin.planned(reader, one, held)
    if one.canvas is None:
        noise, under = model.initial_noise(one.job.height, one.job.width, generator), None
        solver = begin.solver(model, one, generator)
        latents = noise * solver.init_noise_sigma
    else:
        under, solver = ground(model, one.canvas, generator), begin.solver(model, one, generator)
        latents = under.begin(solver, not one.skipped)
    return Live(
        one,
        begun.plan,
        held,
        begun.prompts,
        begun.texts,
        solver,
        latents,
        (*held.notices, *begun.notices, *begin.first_step(solver, one)),
        time_ids(one.request),
        generator,
        under,
    )


def _second(model: LoadedModel, first: Live, one: Resolved) -> Live:
    """Return a picture's second pass: as the first, on its latents enlarged; its draws go on where those ended."""
    begun = begin.planned(PromptReader(model), one, first.held)
    hires = first.resolved.request.hires or Hires()
    under = enlarged(model, first.latents, hires, (one.job.height, one.job.width), first.generator)
    solver = begin.solver(model, one, first.generator)
    notices = (*first.notices, *begun.notices, *filter(None, [under.notice]))
    first.notices = tuple(dict.fromkeys(notices))
    return Live(
        one,
        begun.plan,
        first.held,
        begun.prompts,
        begun.texts,
        solver,
        under.begin(solver, whole=False),
        first.notices,
        time_ids(one.request),
        first.generator,
        under,
        before=len(first.solver.steps),
        tally=first.tally,
    )


def _hold(model: LoadedModel, source: AdapterSource, one: Resolved) -> Held:
    digests: dict[str, str] = {}
    notices: list[str] = []
    for use in one.request.adapters:
        name = f"{use.name}, in part" if use.allow_partial else use.name
        digest = model.store.hold(name, sources.identity(use), partial(sources.loaded, source, use, model.layout))
        notices += model.store[digest].notices
        by_block = use.blocks if isinstance(use.blocks, dict) else None  # as resolving leaves them
        digests[use.name] = digest if by_block is None else model.store.shaped(digest, by_block, model.layout)
    words = text.vocabulary({name: model.store[one].words for name, one in digests.items()})
    return Held(model.store, digests, words, tuple(notices))


def _report(model: LoadedModel, live: Sequence[Live], going: Mapping[int, Live], index: int) -> StepReport:
    pictures: list[PictureProgress] = []
    for position, one in going.items():
        if index < len(one.solver.steps):
            pictures.append(_progress(model, one, position, (one.before + index, live[position])))
    return StepReport(max(one.index for one in pictures), max(map(_steps_of, live)), tuple(pictures))


def _steps_of(one: Live) -> int:
    """Return how many steps a picture takes, those of its second pass included."""
    return len(one.solver.steps) + (one.resolved.second.count if one.resolved.second else 0)


def _shown(findings: Findings) -> dict[str, Image.Image]:
    """Return what a plan found as grey pictures, white for 1."""
    grey = {name: one.float().clamp(0, 1).mul(255).round().to("cpu", torch.uint8) for name, one in findings.items()}
    return {name: Image.fromarray(one.numpy()) for name, one in grey.items()}


def _progress(model: LoadedModel, one: Live, position: int, place: tuple[int, Live]) -> PictureProgress:
    """Report on a picture, at a step of what it began as; its previews show what the step's prediction points at."""
    latents, request = one.latents.clone(), one.resolved.request
    index, first = place
    estimate = one.estimate or latents.clone
    return PictureProgress(
        position,
        index,
        _steps_of(first),
        latents,
        pixels=(request.width or 0) * (request.height or 0),
        preview=lambda: model.preview(estimate()),
        decoded=lambda: model.decode(estimate()).image,
        findings=lambda: _shown(one.plan.findings()),
        outline=lambda: outlined(first.resolved, first.texts),
    )


@cache
def _versions() -> dict[str, str]:
    return {package: version(package) for package in _VERSIONS_OF}


def _record(model: LoadedModel, one: Live, picture: Decoded, room: Room, seconds: float) -> RenderRecord:
    return RenderRecord(
        **one.resolved.request.model_dump(),
        versions={"medley": revision(), **_versions()},
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(model.device),
        rows_per_call=one.tally.rows_per_call,
        unet_passes=one.tally.unet_passes,
        unet_rows=one.tally.unet_rows,
        shallow_passes=one.tally.shallow_passes,
        looks=one.tally.looks,
        slopes=one.tally.slopes,
        unet_calls=one.tally.unet_calls,
        seconds=seconds,
        pixels_sha256=pixels_sha256(picture.image),
        notices=(*one.notices, *filter(None, [room.notice, picture.notice])),
    )
