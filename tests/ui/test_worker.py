"""The one thread that renders: whatever a job, a row or the disk does to it, it goes on, and says what hinders it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event, Thread

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from composer.request import RenderRequest
from pipelines.engine import Engine
from pipelines.images import Rendering
from pipelines.jobs.states import State
from pipelines.progress import Cancel, OnStep
from tests.ui.waiting import until
from ui import base, routes
from ui import service as service_module
from ui.errors import Unavailable
from ui.history import FILE, Asked, History, Job
from ui.service import Service
from ui.worker import Worker

REQUEST = RenderRequest(prompt="a meadow", num_inference_steps=1)


class Lock:
    """Another program that writes to the history, and takes its time."""

    def __init__(self, folder: Path) -> None:
        self._base = sqlite3.connect(folder / FILE, check_same_thread=False, isolation_level=None)

    def take(self) -> None:
        self._base.execute("BEGIN IMMEDIATE")

    def release(self) -> None:
        if self._base.in_transaction:
            self._base.execute("ROLLBACK")


@pytest.fixture(scope="module")
def made() -> Rendering:
    return Engine().render(REQUEST)


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[History]:
    monkeypatch.setattr(base, "WAIT", 0.01)
    found = History(tmp_path)
    yield found
    found.close()


@pytest.fixture
def lock(history: History, tmp_path: Path) -> Iterator[Lock]:
    found = Lock(tmp_path)
    yield found
    found.release()


@pytest.fixture
def started(
    history: History, lock: Lock, made: Rendering
) -> Iterator[Callable[[Callable[[RenderRequest], None]], Worker]]:
    """Start a worker whose renderings are made already; what it is given happens before each."""
    workers: list[Worker] = []

    def start(before: Callable[[RenderRequest], None]) -> Worker:
        def render(requests: Sequence[RenderRequest], _on_step: OnStep, cancel: Cancel) -> list[Rendering]:
            for request in requests:
                before(request)
                cancel.check()
            return [made] * len(requests)

        workers.append(Worker(history, render, lambda record: record))
        workers[-1].start()
        return workers[-1]

    yield start
    lock.release()
    for worker in workers:
        worker.stop()


def add(history: History, worker: Worker, **fields: object) -> Job:
    job = history.add(Asked((REQUEST.model_copy(update=fields),)))
    with worker.news:
        worker.news.notify_all()
    return job


def over(history: History, job: Job) -> bool:
    return history.state(job.id)[0] not in (State.WAITING, State.RUNNING)


Start = Callable[[Callable[[RenderRequest], None]], Worker]


def test_a_finished_picture_is_kept_until_it_can_be_stored(history: History, lock: Lock, started: Start) -> None:
    renderings: list[int] = []

    def before(request: RenderRequest) -> None:
        renderings.append(request.seed)
        lock.take()

    worker = started(before)
    job = add(history, worker, seed=7)
    until(lambda: worker.health().state == "hindered")
    health = worker.health()
    assert (health.works, health.job) == (False, job.id)
    assert health.error == "the history cannot be used at the moment: database is locked"
    with pytest.raises(Unavailable, match="cannot do jobs at the moment: the history .* nothing was accepted"):
        worker.check()
    lock.release()
    until(lambda: over(history, job))
    assert history.state(job.id) == (State.DONE, "")
    (kept,) = history.pictures(job.id)
    assert history.file(kept.id).is_file() and renderings == [7]
    until(lambda: worker.health().state == "idle")
    worker.check()
    assert worker.health().error == health.error  # the last one is remembered, and when it was
    assert [path.stem for path in (history.folder / "pictures").iterdir()] == [kept.id]


def test_a_job_that_fails_while_the_history_is_locked_is_marked_later(
    history: History, lock: Lock, started: Start
) -> None:
    def before(request: RenderRequest) -> None:
        if request.seed == 1:
            lock.take()
            raise RuntimeError("no such luck")

    worker = started(before)
    first, second = add(history, worker, seed=1), add(history, worker, seed=2)
    until(lambda: worker.health().state == "hindered")
    lock.release()
    until(lambda: over(history, second))
    assert history.state(first.id) == (State.FAILED, "internal error: RuntimeError: no such luck")
    assert history.state(second.id) == (State.DONE, "")


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), MemoryError(), RecursionError("deep")])
def test_whatever_a_job_raises_the_next_one_goes_on(raised: BaseException, history: History, started: Start) -> None:
    def before(request: RenderRequest) -> None:
        if request.seed == 1:
            raise raised

    worker = started(before)
    first, second = add(history, worker, seed=1), add(history, worker, seed=2)
    until(lambda: over(history, second))
    state, error = history.state(first.id)
    assert (state, error) == (State.FAILED, f"internal error: {type(raised).__name__}: {raised}")
    assert history.state(second.id)[0] is State.DONE
    assert worker.health().works


@pytest.mark.parametrize(
    ("column", "content"),
    [
        ("requests", '[{"prompt": "a", "key_of_another_version": 1}]'),
        ("requests", '[{"prompt"'),
        ("requests", "null"),
        ("requests", "[" * 10_000),
        ("labels", "[]"),
        ("labels", "7"),
    ],
)
def test_a_row_that_cannot_be_read_is_put_aside_and_the_others_go_on(
    column: str, content: str, history: History, tmp_path: Path, started: Start
) -> None:
    jobs = [history.add(Asked((REQUEST,))) for _ in range(3)]
    with sqlite3.connect(tmp_path / FILE) as other:
        other.execute(f"UPDATE jobs SET {column} = ? WHERE id = ?", (content, jobs[0].id))
    worker = started(lambda _: None)
    until(lambda: over(history, jobs[2]))
    state, error = history.state(jobs[0].id)
    assert state is State.FAILED
    assert error.startswith(
        f"job {jobs[0].id} was written by another version of Medley, or is damaged, and is left out"
    )
    assert [history.state(job.id)[0] for job in jobs[1:]] == [State.DONE] * 2
    assert worker.health().works
    assert {job.id for job in history.jobs()} == {job.id for job in jobs}


def test_what_nobody_thought_of_is_waited_out(
    history: History, started: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ui.worker._LONGEST", 0.01)
    left = [KeyError("x"), SystemExit(1), sqlite3.IntegrityError("y")]
    take = history.next

    def odd() -> Job | None:
        if left:
            raise left.pop()
        return take()

    monkeypatch.setattr(history, "next", odd)
    worker = started(lambda _: None)
    job = add(history, worker)
    until(lambda: over(history, job))
    assert history.state(job.id)[0] is State.DONE and left == []
    assert worker.health().error == "KeyError: 'x'"


def test_a_picture_that_waits_for_the_disk_can_be_cancelled(history: History, lock: Lock, started: Start) -> None:
    worker = started(lambda _: lock.take())
    job = add(history, worker)
    until(lambda: worker.health().state == "hindered")
    assert worker.cancel(job.id) and not worker.cancel("another")
    until(lambda: list((history.folder / "pictures").iterdir()) == [])
    lock.release()
    until(lambda: over(history, job))
    assert history.state(job.id)[0] is State.CANCELLED


def test_a_server_that_ends_while_the_history_is_locked_ends(history: History, lock: Lock, started: Start) -> None:
    worker = started(lambda _: lock.take())
    job = add(history, worker)
    until(lambda: worker.health().state == "hindered")
    worker.stop()
    assert worker.health().state == "stopped"
    with pytest.raises(Unavailable):
        worker.check()
    lock.release()
    assert history.recover() == 1
    again = started(lambda _: None)
    until(lambda: over(history, job))
    assert history.state(job.id)[0] is State.DONE and again.health().works


def test_a_full_disk_is_waited_out(history: History, started: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.jobs import worker as batch

    write, full = batch.write, [True]

    def writing(rendering: Rendering, path: Path) -> object:
        if full:
            raise OSError(28, "No space left on device", str(path))
        return write(rendering, path)

    monkeypatch.setattr(batch, "write", writing)
    worker = started(lambda _: None)
    job = add(history, worker)
    until(lambda: worker.health().state == "hindered")
    assert worker.health().error == "No space left on device"  # and no path of the machine
    full.clear()
    until(lambda: over(history, job))
    assert history.state(job.id)[0] is State.DONE


def test_health_looks_whether_the_history_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "_LOOK", 0.01)
    service = Service(Engine(), tmp_path)
    app = FastAPI()
    routes.add(app, service)
    other = Lock(tmp_path)
    try:
        with TestClient(app) as client:
            assert client.get("/medley/health").json()["worker"] == "not started"
            service.start()
            until(lambda: client.get("/medley/health").status_code == 200)
            other.take()  # while nothing is to be done, so that no job comes upon it
            answer = client.get("/medley/health")
            assert (answer.status_code, answer.json()["ready"], answer.json()["worker"]) == (503, False, "hindered")
            assert answer.json()["error"] == "the history cannot be used at the moment: database is locked"
            other.release()
            answer = client.get("/medley/health")
            assert (answer.status_code, answer.json()["ready"], answer.json()["worker"]) == (200, True, "idle")
    finally:
        other.release()
        service.stop()


def test_a_change_of_our_own_is_no_obstacle_and_one_that_waits_for_others_is(
    history: History, lock: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "WAIT", 30.0)
    own = base.Base(history.folder / FILE)
    told: list[str] = []
    inside, leave = Event(), Event()

    def change() -> None:
        with own.change():
            inside.set()
            leave.wait(30)

    def look() -> None:
        try:
            own.check_writable(0.01)
        except Unavailable as error:
            told.append(str(error))

    changing = Thread(target=change)
    changing.start()
    inside.wait(30)
    look()
    assert told == []
    leave.set()
    changing.join()
    lock.take()
    waiting = Thread(target=lambda: own.run("DELETE FROM ballots"))
    waiting.start()
    look()
    assert told == ["the history cannot be used at the moment: database is locked"]
    lock.release()
    waiting.join()
    look()
    assert len(told) == 1
    own.close()
