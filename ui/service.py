"""One worker for the model, one queue, and everything a page, a client or a test may ask of them. It knows no page."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from composer.outline import Outline
from composer.request import RenderRequest, Start
from composer.sharing import shared
from lora_zoo import catalog
from lora_zoo.errors import ZooError
from lora_zoo.fit import Fit
from pipelines.engine import Engine
from pipelines.jobs.states import OPEN, STOPPED, State
from pipelines.outlines import outlined
from pipelines.pricing import Cost
from pipelines.progress import Cancel, OnStep
from pipelines.resolve import Resolved
from pipelines.tagged import with_tags
from ui import discreet, held, uploads, words
from ui.errors import NotAllowed, NotThere, TooBusy, Unavailable
from ui.held import Held
from ui.history import Asked, History, Job
from ui.limits import Allowed, Limits, check_amount, check_held, check_memory, check_names, check_work
from ui.live import Live
from ui.owner import Owner
from ui.shelf import Shelf
from ui.worker import Health, Worker, goes_of

if TYPE_CHECKING:
    from pipelines.images import Rendering

log = logging.getLogger(__name__)

_LOOK = 0.5  # seconds in which it must be seen whether the history can be written


@dataclass(frozen=True)
class Offer:
    """What a server offers beside what comes with the project."""

    models: tuple[str, ...] = ()
    zoos: tuple[Path, ...] = ()
    reports: tuple[Path, ...] = ()  # folders in which evaluation reports are looked for
    address: str = ""  # where the server can be reached


@dataclass(frozen=True)
class Standing:
    """A job as it stands now."""

    job: Job
    ahead: int = 0  # jobs before it
    live: Live | None = None  # while it runs


class Service:
    """Takes jobs, does them one after another, and keeps what came of them."""

    def __init__(self, engine: Engine, folder: Path, offer: Offer | None = None, limits: Limits | None = None) -> None:
        """Keep jobs, pictures and uploads in `folder`, and offer LoRAs and models."""
        offer = offer or Offer()
        self.limits = limits or Limits()
        self.owner = Owner(folder, offer.address)
        try:
            self._open(engine, folder, offer)
        except BaseException:
            self.owner.release()
            raise

    def _open(self, engine: Engine, folder: Path, offer: Offer) -> None:
        self.history = History(folder)
        self.models = tuple(dict.fromkeys([*offer.models, *(one.name for one in catalog.models())]))
        self.reports = offer.reports
        self.held = Held(folder / held.FOLDER, self.limits.picture)
        self.shelf = Shelf(engine, offer.zoos, folder / uploads.FOLDER)
        self.worker = Worker(self.history, self._render, self.held.named, self.limits.job_seconds)

    def start(self) -> None:
        """Take up what an earlier server left, and begin to work."""
        self.history.recover()
        self.worker.start()

    def stop(self) -> None:
        """Stop within a step; what is not done is done at the next start."""
        self.worker.stop()
        self.history.close()
        self.owner.release()

    @property
    def engine(self) -> Engine:
        """The engine with the LoRAs that are offered now."""
        return self.shelf.engine

    def admit(self, file: Path, model: str, doubtful: bool = False) -> tuple[Path, Fit]:
        """Take a LoRA that somebody sent, if it is sound and fits; else raise the reason."""
        if model not in self.models:
            raise NotAllowed(f"model {model!r} is not offered here")
        return self.shelf.admit(file, model, uploads.Terms(self.limits.upload, doubtful))

    def remove_lora(self, handle: str) -> str:
        """Remove a LoRA that was sent or made here; return the name by which `put_back_lora` knows it.

        Raises:
            NotThere: There is none of this handle.
            NotAllowed: It came with the server or lies in a folder of the user's, or a job that is not over needs it.
        """
        with self.worker.news:  # no job comes in meanwhile
            entry = self.shelf.loras.get(handle)
            if entry is not None and (needed := self.history.open_with(entry.sha256)):
                raise NotAllowed(f"LoRA {handle!r} is needed by {needed} jobs that are not over; cancel them first")
            return self.shelf.remove(handle)

    def put_back_lora(self, name: str) -> None:
        """Offer a LoRA again that was removed."""
        self.shelf.put_back(name)

    def resolve(self, requests: Sequence[RenderRequest]) -> list[RenderRequest]:
        """Return requests with nothing left open; a mistake, or too much, is a typed error."""
        return [one.request for one in self._resolved(requests)]

    def _resolved(self, requests: Sequence[RenderRequest]) -> list[Resolved]:
        """Resolve requests; those that differ by their seeds only, once."""
        check_held(requests, self.limits)
        offered = self.shelf.now
        allowed = Allowed(self.models, offered.loras)
        known: dict[tuple[str, Start | None], Resolved] = {}
        found: list[Resolved] = []
        for one in (self.engine.drawn(one, allowed.loras.__contains__) for one in requests):
            alike = (one.model_dump_json(exclude={"seed", "start"}), one.start)
            if alike not in known:
                tagged = with_tags(one)
                check_names(tagged, allowed)
                known[alike] = offered.engine.resolve(self.held.inline(tagged))
            found.append(known[alike].seeded(one.seed))
        check_amount([one.request for one in found], self.limits)
        uses = (use for one in known.values() for use in one.request.adapters)
        if any(offered.loras[use.name].sha256 != use.sha256 for use in uses):
            self.shelf.refresh()  # a file was written over since it was looked at
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

    def health(self) -> Health:
        """Return whether jobs are being done, and could be written down now; what hinders it, by its message."""
        found = self.worker.health()
        if not found.works:
            return found
        try:
            self.history.check_writable(_LOOK)
        except Unavailable as error:
            return replace(found, state="hindered", error=discreet.said(error), when=time.time())
        return found

    def submit(self, asked: Asked) -> Job:
        """Accept a job. Once this returns, the job is on the disk and will be done, whatever happens to the server."""
        self.worker.check()
        offered = self.shelf.now
        resolved = replace(asked, requests=tuple(map(self.held.named, self.resolve(asked.requests))))
        with self.worker.news:
            if offered is not self.shelf.now:
                self._check_still_offered(resolved.requests)
            waiting = self.history.count(State.WAITING)
            if waiting >= self.limits.waiting:
                raise TooBusy(f"{waiting} jobs are waiting, which is all that this server takes; try again in a while")
            job = self.history.add(resolved)
            self.worker.news.notify_all()
        return job

    def _check_still_offered(self, requests: Sequence[RenderRequest]) -> None:
        """Refuse LoRAs that were taken away since the requests were resolved."""
        allowed = Allowed(self.models, self.shelf.loras)
        for request in requests:
            check_names(self.shelf.now.found(self.held.inline(request)), allowed)

    def standing(self, job: str) -> Standing:
        """Return how a job stands."""
        found, live = self.history.job(job), self.worker.live(job)
        if found.state is State.RUNNING and live is not None:
            return Standing(found, 0, live)
        return Standing(found, self.history.ahead(job) if found.state in OPEN else 0)

    def cancel(self, job: str) -> None:
        """Stop a job: at once if it waits, before its next model call if it runs; one that is over stays as it is."""
        with self.worker.news:
            if not self.worker.cancel(job) and self.history.withdraw(job):
                self.worker.news.notify_all()

    def resume(self, job: str) -> None:
        """Put a job that failed or was cancelled back into the queue; pictures that are there are not made again."""
        self.worker.check()
        with self.worker.news:
            if self.history.state(job)[0] in STOPPED:
                self.history.requeue(job)
                self.worker.news.notify_all()

    def glance(self, job: str) -> dict[str, JsonValue]:
        """Return how a job stands, as a page shows it; cheap enough to be asked many times a second."""
        if (live := self.worker.live(job)) is not None:
            return {"state": State.RUNNING.value, **live.told()}
        state, error = self.history.state(job)
        if state is State.WAITING:
            return {"state": state.value, "ahead": self.history.ahead(job)}
        pictures = self.history.pictures(job) if state is State.DONE else []
        return {
            "state": state.value,
            "error": discreet.said(error),
            "told": words.finished(pictures) if pictures else "",
        }

    def settings(self, picture: str) -> RenderRequest:
        """Return what a picture was made with, to be asked for again: LoRAs by their names of now, and no path."""
        return self.shelf.now.found(shared(self.history.picture(picture).record.request()))

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
        with self.worker.news:
            while self.history.state(job)[0] in OPEN and (left := end - time.monotonic()) > 0:
                self.worker.news.wait(left)
        return self.standing(job)

    def warm(self) -> None:
        """Load the first model and make one step of a picture, so that the first user need not wait for it."""
        try:
            self.engine.render(RenderRequest(model=self.models[-1], prompt="a meadow", num_inference_steps=1))
        except ZooError:
            log.exception("the model %s cannot be used", self.models[-1])

    def _render(self, requests: Sequence[RenderRequest], on_step: OnStep, cancel: Cancel) -> list[Rendering]:
        """Make pictures with the LoRAs as they are offered now; those are found again that go by another name now."""
        shelf = self.shelf.now
        return shelf.engine.render_many([self.held.inline(shelf.found(one)) for one in requests], on_step, cancel)
