"""The one thread that renders: it does jobs one after another, and outlives whatever they, or the disk, do to it.

A job that raises is failed, and the next one goes on. What hinders the thread itself, such as a history that another
program has locked or a disk that is full, is waited out: tried again after a pause that grows, while `health` says so.
A picture that is finished is kept in memory until it can be stored.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Condition, Thread
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from composer.outline import Outline
from composer.record import RenderRecord
from composer.request import RenderRequest
from lora_zoo.errors import ZooError
from pipelines.errors import Cancelled, OutOfTime
from pipelines.jobs.planning import Job as Planned
from pipelines.jobs.planning import together
from pipelines.jobs.states import State
from pipelines.progress import Cancel, OnStep
from ui.errors import Unavailable
from ui.history import History, Job, Kept
from ui.live import Live, Watcher, as_data

if TYPE_CHECKING:
    from pipelines.images import Rendering

log = logging.getLogger(__name__)

_MOST_ATTEMPTS = 3  # a job that takes the server down with it is not tried for ever
_PAUSE, _LONGEST = 0.1, 5.0  # seconds between tries: doubled each time, up to the longest

#: Renders requests of one model together, in order, told step by step and stopped at will.
Render = Callable[[Sequence[RenderRequest], OnStep, Cancel], "list[Rendering]"]
#: Returns a record as it is kept: naming the picture that it begins with, which is stored for that.
Named = Callable[[RenderRecord], RenderRecord]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Health:
    """Whether jobs are being done.

    `state` is one of: not started, idle, working, hindered, stopped, dead.
    """

    state: str
    error: str = ""  # what hinders it now, or hindered it last
    when: float | None = None  # seconds since 1970: of that error
    job: str | None = None  # under way

    @property
    def works(self) -> bool:
        return self.state in ("idle", "working")


@dataclass
class Now:
    """The job under way."""

    watcher: Watcher
    cancel: Cancel
    told: bool = False  # to stop by a user, and not by the server's end


class _Ending(Exception):
    """The server is being stopped while something is in the way; the job is taken up again at the next start."""


class Worker:
    """Does the jobs of a history, one at a time, in a thread of its own."""

    def __init__(self, history: History, render: Render, named: Named, job_seconds: float | None = None) -> None:
        """Take jobs from `history`, have `render` make their pictures, and keep them as `named` leaves them.

        A job that takes longer than `job_seconds` is failed, and keeps the pictures that it has; None: it may.
        """
        self.now: Now | None = None
        self.news = Condition()  # told of jobs that come or end, and of the server's end; held while jobs change hands
        self._history, self._render, self._named = history, render, named
        self._job_seconds = job_seconds
        self._stopping = False
        self._hindered = False
        self._error = ""
        self._when: float | None = None
        self._thread = Thread(target=self._work, name="model", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Stop within a step, and return once the thread has ended."""
        with self.news:
            self._stopping = True
            if self.now is not None:
                self.now.cancel.cancel()
            self.news.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def cancel(self, job: str) -> bool:
        """Stop a job before its next model call, if it is the one under way; return whether it is."""
        with self.news:
            here = self.now is not None and self.now.watcher.live.job == job
            if here and self.now is not None:
                self.now.told = True
                self.now.cancel.cancel()
                self.news.notify_all()
        return here

    def live(self, job: str) -> Live | None:
        """Return the present moment of a job, if it is the one under way."""
        now = self.now
        return now.watcher.live if now is not None and now.watcher.live.job == job else None

    def health(self) -> Health:
        """Return whether jobs are being done, and what hinders that."""
        now = self.now
        job = None if now is None else now.watcher.live.job
        return Health(self._state(job), self._error, self._when, job)

    def check(self) -> None:
        """Raise `Unavailable` while jobs that are handed in could not be done."""
        health = self.health()
        if not health.works and health.state != "not started":
            why = f": {health.error}" if health.error else ""
            raise Unavailable(f"this server cannot do jobs at the moment{why}; nothing was accepted, try again later")

    def _state(self, job: str | None) -> str:
        if self._thread.ident is None:
            return "not started"
        if not self._thread.is_alive():
            return "stopped" if self._stopping else "dead"
        if self._hindered:
            return "hindered"
        return "idle" if job is None else "working"

    def _work(self) -> None:
        while not self._stopping:
            try:
                job = self._insist(self._next)
                if job is not None:
                    self._finish(job, *self._tried(job))
            except BaseException as error:  # noqa: BLE001  nothing may end this thread but the server's end
                if not self._stopping:
                    self._note(error)
                    with suppress(_Ending):
                        self._rest(_LONGEST)
            finally:
                self.now = None

    def _tried(self, job: Job) -> tuple[State, str]:
        """Do a job; return the state to leave it in, and what went wrong. Whatever it raises is its own failure."""
        try:
            return self._do(job)
        except _Ending:
            raise
        except BaseException as raised:  # noqa: BLE001  SystemExit among them
            log.exception("job %s raised", job.id)
            internal = f"internal error: {type(raised).__name__}: {raised}"
            return State.FAILED, str(raised) if isinstance(raised, ZooError) else internal

    def _finish(self, job: Job, state: State, error: str) -> None:
        if state is State.WAITING:
            self._insist(lambda: self._history.release(job.id))
        else:
            self._insist(lambda: self._history.set_state(job.id, state, error))
        with self.news:
            self.now = None
            self.news.notify_all()

    def _insist(self, act: Callable[[], _T], cancel: Cancel | None = None) -> _T:
        """Do what needs the disk, again and again while that is out of order, until it is done or no longer wanted."""
        pause = _PAUSE
        while True:
            try:
                found = act()
            except (Unavailable, OSError) as error:
                self._note(error)
            else:
                self._hindered = False
                return found
            if cancel is not None and not self._stopping:
                with suppress(OutOfTime):  # what is finished is kept, however long the disk takes
                    cancel.check()
            self._rest(pause)
            pause = min(2 * pause, _LONGEST)

    def _note(self, error: BaseException) -> None:
        """Let `health` tell what is in the way."""
        found = error.strerror if isinstance(error, OSError) else None
        told = str(error) if isinstance(error, ZooError) else found or f"{type(error).__name__}: {error}"
        if not (self._hindered and told == self._error):
            log.warning("jobs cannot be done at the moment: %s", told, exc_info=not isinstance(error, Unavailable))
        self._error, self._when, self._hindered = told, time.time(), True

    def _rest(self, seconds: float) -> None:
        """Wait, but no longer than until there are news; raise `_Ending` at the end."""
        with self.news:
            if not self._stopping:
                self.news.wait(seconds)
            if self._stopping:
                raise _Ending

    def _next(self) -> Job | None:
        """Wait for a job and take it; none at the end."""
        with self.news:
            while not self._stopping:
                job = self._history.next()
                if job is not None:
                    self.now = Now(Watcher(Live(job.id, len(job.asked.requests))), Cancel(self._job_seconds))
                    return job
                self._hindered = False
                self.news.wait()
        return None

    def _do(self, job: Job) -> tuple[State, str]:
        """Make the pictures of a job that are not there yet; return the state to leave it in, and why."""
        now = self.now
        assert now is not None
        if job.attempts > _MOST_ATTEMPTS:
            return State.QUARANTINED, f"the server ended {_MOST_ATTEMPTS} times while at this job"
        try:
            there = self._insist(lambda: self._history.whole(job.id), now.cancel)
            for go in goes_of(job.asked.requests):
                now.watcher.go(len(go))
                if not there.issuperset(place for place, _ in go):
                    made = self._render([request for _, request in go], now.watcher.on_step, now.cancel)
                    for position, ((place, _), rendering) in enumerate(zip(go, made, strict=True)):
                        self._keep(job, place, rendering, now.watcher.live.outlines.get(position))
                now.watcher.finished(len(go))
        except OutOfTime as error:
            return State.FAILED, f"{error}; {now.watcher.live.reached()}"
        except Cancelled:
            return (State.CANCELLED if now.told else State.WAITING), ""
        return State.DONE, ""

    def _keep(self, job: Job, place: int, rendering: Rendering, outline: Outline | None) -> None:
        """Write a picture as a batch does: the same request gives the same bytes, so the clock is kept apart."""
        from pipelines.jobs import worker

        cancel = None if self.now is None else self.now.cancel
        picture = uuid4().hex
        file = self._history.folder / "pictures" / f"{picture}.png"
        made = self._insist(lambda: worker.write(rendering, file), cancel)
        try:
            saw = {name: as_data(image) for name, image in rendering.findings.items()}
            record = self._insist(lambda: self._named(rendering.record), cancel)
            kept = Kept(picture, job.id, place, record, made.seconds, time.time(), saw, outline)
            self._insist(lambda: self._history.put(kept), cancel)
        except BaseException:
            file.unlink(missing_ok=True)  # no row names it, so nobody would find it
            raise


def goes_of(requests: Sequence[RenderRequest]) -> list[list[tuple[int, RenderRequest]]]:
    """Deal a job's requests, with their places, into what is rendered together, as a batch of the same would be."""
    planned = together([Planned(str(place), one) for place, one in enumerate(requests)])
    return [[(int(one.digest), one.request) for one in go] for go in planned]
