"""One worker for the model, one queue, and everything a page, a client or a test may ask of them. It knows no page."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Condition, Thread
from typing import TYPE_CHECKING
from uuid import uuid4

from pydantic import JsonValue

from composer.outline import Outline
from composer.request import RenderRequest, Start
from lora_zoo import catalog
from lora_zoo.errors import ZooError
from lora_zoo.fit import Fit
from pipelines.engine import Engine
from pipelines.errors import Cancelled, OutOfTime
from pipelines.jobs.planning import Job as Planned
from pipelines.jobs.planning import together
from pipelines.jobs.states import OPEN, STOPPED, State
from pipelines.outlines import outlined
from pipelines.pricing import Cost
from pipelines.progress import Cancel
from pipelines.resolve import Resolved
from pipelines.tagged import with_tags
from ui import held, uploads, words
from ui.errors import NotAllowed, NotThere, TooBusy
from ui.held import Held
from ui.history import Asked, History, Job, Kept
from ui.limits import Allowed, Limits, check_amount, check_held, check_memory, check_names, check_work
from ui.live import Live, Watcher, as_data
from ui.shelf import Shelf

if TYPE_CHECKING:
    from pipelines.images import Rendering

log = logging.getLogger(__name__)

_MOST_ATTEMPTS = 3  # a job that takes the server down with it is not tried for ever


@dataclass(frozen=True)
class Offer:
    """What a server offers beside what comes with the project."""

    models: tuple[str, ...] = ()
    zoos: tuple[Path, ...] = ()
    reports: tuple[Path, ...] = ()  # folders in which evaluation reports are looked for


@dataclass(frozen=True)
class Standing:
    """A job as it stands now."""

    job: Job
    ahead: int = 0  # jobs before it
    live: Live | None = None  # while it runs


@dataclass
class _Now:
    """The job under way."""

    watcher: Watcher
    cancel: Cancel
    told: bool = False  # to stop by a user, and not by the server's end


class Service:
    """Takes jobs, does them one after another, and keeps what came of them."""

    def __init__(self, engine: Engine, folder: Path, offer: Offer | None = None, limits: Limits | None = None) -> None:
        """Keep jobs, pictures and uploads in `folder`, and offer LoRAs and models."""
        offer = offer or Offer()
        self.engine = engine
        self.history = History(folder)
        self.limits = limits or Limits()
        self.models = tuple(dict.fromkeys([*offer.models, *(one.name for one in catalog.models())]))
        self.reports = offer.reports
        self.held = Held(folder / held.FOLDER, self.limits.picture)
        self.shelf = Shelf(engine, offer.zoos, folder / uploads.FOLDER)
        self._news = Condition()
        self._now: _Now | None = None
        self._stopping = False
        self._thread = Thread(target=self._work, name="model", daemon=True)

    def start(self) -> None:
        """Take up what an earlier server left, and begin to work."""
        self.history.recover()
        self._thread.start()

    def stop(self) -> None:
        """Stop within a step; what is not done is done at the next start."""
        with self._news:
            self._stopping = True
            if self._now is not None:
                self._now.cancel.cancel()
            self._news.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self.history.close()

    def admit(self, file: Path, model: str, doubtful: bool = False) -> tuple[Path, Fit]:
        """Take a LoRA that somebody sent, if it is sound and fits; else raise the reason."""
        if model not in self.models:
            raise NotAllowed(f"model {model!r} is not offered here")
        return self.shelf.admit(file, model, uploads.Terms(self.limits.upload, doubtful))

    def resolve(self, requests: Sequence[RenderRequest]) -> list[RenderRequest]:
        """Return requests with nothing left open; a mistake, or too much, is a typed error."""
        return [one.request for one in self._resolved(requests)]

    def _resolved(self, requests: Sequence[RenderRequest]) -> list[Resolved]:
        """Resolve requests; those that differ by their seeds only, once."""
        check_held(requests, self.limits)
        allowed = Allowed(self.models, self.shelf.loras)
        known: dict[tuple[str, Start | None], Resolved] = {}
        found: list[Resolved] = []
        for one in (self.engine.drawn(one, allowed.loras.__contains__) for one in requests):
            alike = (one.model_dump_json(exclude={"seed", "start"}), one.start)
            if alike not in known:
                tagged = with_tags(one)
                check_names(tagged, allowed)
                known[alike] = self.engine.resolve(self.held.inline(tagged))
            found.append(known[alike].seeded(one.seed))
        check_amount([one.request for one in found], self.limits)
        check_work(found, self.limits)
        check_memory(self._price(found), self.limits)
        return found

    def cost(self, requests: Sequence[RenderRequest]) -> Cost:
        """Count what a job would take, without loading a model."""
        return self._price(self._resolved(requests))

    def _price(self, found: Sequence[Resolved]) -> Cost:
        goes = goes_of([one.request for one in found])
        return sum((self.engine.price([found[place] for place, _ in go]) for go in goes), Cost(0, 0, 0))

    def outline(self, request: RenderRequest) -> Outline:
        """Return what a picture's method does with each LoRA in each step, without loading a model."""
        return outlined(self._resolved([request])[0])

    def submit(self, asked: Asked) -> Job:
        """Accept a job. Once this returns, the job is on the disk and will be done, whatever happens to the server."""
        resolved = replace(asked, requests=tuple(map(self.held.named, self.resolve(asked.requests))))
        with self._news:
            waiting = self.history.count(State.WAITING)
            if waiting >= self.limits.waiting:
                raise TooBusy(f"{waiting} jobs are waiting, which is all that this server takes; try again in a while")
            job = self.history.add(resolved)
            self._news.notify_all()
        return job

    def standing(self, job: str) -> Standing:
        """Return how a job stands."""
        now = self._now
        found = self.history.job(job)
        if found.state is State.RUNNING and now is not None and now.watcher.live.job == job:
            return Standing(found, 0, now.watcher.live)
        return Standing(found, self.history.ahead(job) if found.state in OPEN else 0)

    def cancel(self, job: str) -> None:
        """Stop a job: at once if it waits, before its next model call if it runs; one that is over stays as it is."""
        with self._news:
            if self.history.withdraw(job):
                return
            if self._now is not None and self._now.watcher.live.job == job:
                self._now.told = True
                self._now.cancel.cancel()

    def resume(self, job: str) -> None:
        """Put a job that failed or was cancelled back into the queue; pictures that are there are not made again."""
        with self._news:
            if self.history.job(job).state in STOPPED:
                self.history.requeue(job)
                self._news.notify_all()

    def glance(self, job: str) -> dict[str, JsonValue]:
        """Return how a job stands, as a page shows it; cheap enough to be asked many times a second."""
        now = self._now
        if now is not None and now.watcher.live.job == job:
            return {"state": State.RUNNING.value, **now.watcher.live.told()}
        state, error = self.history.state(job)
        if state is State.WAITING:
            return {"state": state.value, "ahead": self.history.ahead(job)}
        pictures = self.history.pictures(job) if state is State.DONE else []
        return {"state": state.value, "error": error, "told": words.finished(pictures) if pictures else ""}

    def open_among(self, jobs: Sequence[str]) -> list[str]:
        """Return those of these jobs that are not over; ids that are none are left out."""
        found: list[str] = []
        for job in jobs[: self.limits.waiting]:
            with suppress(NotThere):
                if self.history.state(job)[0] in OPEN:
                    found.append(job)
        return found

    def wait(self, job: str, seconds: float) -> Standing:
        """Return how a job stands when it is over, or when the time is."""
        end = time.monotonic() + seconds
        while (standing := self.standing(job)).job.state in OPEN and time.monotonic() < end:
            time.sleep(0.02)
        return standing

    def warm(self) -> None:
        """Load the first model and make one step of a picture, so that the first user need not wait for it."""
        try:
            self.engine.render(RenderRequest(model=self.models[-1], prompt="a meadow", num_inference_steps=1))
        except ZooError:
            log.exception("the model %s cannot be used", self.models[-1])

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                self._do(job)
            except Exception as error:  # noqa: BLE001  whatever a job raises is its own failure; the next one goes on
                log.exception("job %s raised", job.id)
                told = str(error) if isinstance(error, ZooError) else f"internal error: {type(error).__name__}: {error}"
                self.history.set_state(job.id, State.FAILED, told)
            finally:
                self._now = None

    def _next(self) -> Job | None:
        with self._news:
            while not self._stopping:
                job = self.history.next()
                if job is not None:
                    return self._begun(job)
                self._news.wait()
        return None

    def _begun(self, job: Job) -> Job:
        self._now = _Now(Watcher(Live(job.id, len(job.asked.requests))), Cancel(self.limits.job_seconds))
        return job

    def _do(self, job: Job) -> None:
        now = self._now
        assert now is not None
        if job.attempts > _MOST_ATTEMPTS:
            told = f"the server ended {_MOST_ATTEMPTS} times while at this job"
            self.history.set_state(job.id, State.QUARANTINED, told)
            return
        there = {kept.position for kept in self.history.pictures(job.id)}
        try:
            for go in goes_of(job.asked.requests):
                now.watcher.go(len(go))
                if not there.issuperset(place for place, _ in go):
                    asked = [self.held.inline(one) for _, one in go]
                    made = self.engine.render_many(asked, now.watcher.on_step, now.cancel)
                    for position, ((place, _), rendering) in enumerate(zip(go, made, strict=True)):
                        self._keep(job, place, rendering, now.watcher.live.outlines.get(position))
                now.watcher.finished(len(go))
        except OutOfTime as error:
            self.history.set_state(job.id, State.FAILED, f"{error}; {now.watcher.live.reached()}")
        except Cancelled:
            if now.told:
                self.history.set_state(job.id, State.CANCELLED)
            else:
                self.history.release(job.id)
        else:
            self.history.set_state(job.id, State.DONE)

    def _keep(self, job: Job, place: int, rendering: Rendering, outline: Outline | None) -> None:
        """Write a picture as a batch does: the same request gives the same bytes, so the clock is kept apart."""
        from pipelines.jobs import worker

        picture = uuid4().hex
        made = worker.write(rendering, self.history.folder / "pictures" / f"{picture}.png")
        saw = {name: as_data(image) for name, image in rendering.findings.items()}
        record = self.held.named(rendering.record)
        self.history.put(Kept(picture, job.id, place, record, made.seconds, time.time(), saw, outline))


def goes_of(requests: Sequence[RenderRequest]) -> list[list[tuple[int, RenderRequest]]]:
    """Deal a job's requests, with their places, into what is rendered together, as a batch of the same would be."""
    planned = together([Planned(str(place), one) for place, one in enumerate(requests)])
    return [[(int(one.digest), one.request) for one in go] for go in planned]
