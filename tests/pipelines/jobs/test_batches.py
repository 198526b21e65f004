"""A batch is rendered whole, once, to the same bytes, whatever else is at work or goes wrong."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from composer.request import RenderRequest
from pipelines import images
from pipelines.engine import Engine
from pipelines.images import Rendering
from pipelines.jobs import audit, worker
from pipelines.jobs.base import FILE
from pipelines.jobs.errors import BadLedger
from pipelines.jobs.ledger import Ledger
from pipelines.jobs.states import State
from pipelines.jobs.worker import Event
from pipelines.progress import Cancel, OnStep
from tests.pipelines.jobs.folders import requests, start, tree


class Flawed(Engine):
    """An engine that raises for one prompt, as a request may that only the model finds wrong."""

    def render_many(
        self, requests: Sequence[RenderRequest], on_step: OnStep | None = None, cancel: Cancel | None = None
    ) -> list[Rendering]:
        if any(one.prompt == "poison" for one in requests):
            raise RuntimeError("no kernel for this")
        return super().render_many(requests, on_step, cancel)


def run(folder: Path, engine: Engine) -> list[Event]:
    events: list[Event] = []
    worker.work(folder, engine, events.append)
    return events


def counts(folder: Path) -> dict[State, int]:
    ledger = Ledger(folder)
    found = ledger.counts()
    ledger.close()
    return {state: count for state, count in found.items() if count}


def verified(folder: Path) -> list[str]:
    ledger = Ledger(folder)
    found = audit.verify(ledger, lambda _: None)
    ledger.close()
    return found


def test_every_job_becomes_one_picture(tmp_path: Path, engine: Engine, small_folder: Path) -> None:
    asked = requests(str(small_folder), 9)
    start(tmp_path, engine, asked)
    assert {event.what for event in run(tmp_path, engine)} == {"done"}
    assert counts(tmp_path) == {State.DONE: 9}
    records = [images.read_record(path) for path in tmp_path.glob("*.png")]
    assert {one.seed for one in records} == set(range(9))
    assert all(one.seconds is None for one in records)
    assert verified(tmp_path) == []


def test_a_batch_that_is_done_renders_nothing_again(tmp_path: Path, engine: Engine, small_folder: Path) -> None:
    start(tmp_path, engine, requests(str(small_folder), 3))
    run(tmp_path, engine)
    before = tree(tmp_path)
    start(tmp_path, engine, requests(str(small_folder), 3))
    assert run(tmp_path, engine) == []
    assert tree(tmp_path) == before


def test_jobs_added_later_leave_the_others_alone(tmp_path: Path, engine: Engine, small_folder: Path) -> None:
    start(tmp_path, engine, requests(str(small_folder), 3))
    run(tmp_path, engine)
    before = {name: digest for name, digest in tree(tmp_path).items() if name != FILE}
    start(tmp_path, engine, requests(str(small_folder), 5))
    assert len(run(tmp_path, engine)) == 2
    assert before.items() <= tree(tmp_path).items()


def test_what_raises_fails_alone(tmp_path: Path, engine: Engine, small_folder: Path) -> None:
    flawed = Flawed(engine.source, load=lambda spec: engine.model(str(spec.path)))
    asked = requests(str(small_folder), 8)
    asked[3] = asked[3].model_copy(update={"prompt": "poison"})
    start(tmp_path, flawed, asked)
    events = run(tmp_path, flawed)
    assert [one.error for one in events if one.what == "failed"] == ["RuntimeError: no kernel for this"]
    assert counts(tmp_path) == {State.DONE: 7, State.FAILED: 1}
    ledger = Ledger(tmp_path)
    assert ledger.retry() == 1
    ledger.close()
    run(tmp_path, engine)
    assert counts(tmp_path) == {State.DONE: 8}
    assert verified(tmp_path) == []


def test_what_is_no_ledger_is_refused(tmp_path: Path, engine: Engine, small_folder: Path) -> None:
    start(tmp_path, engine, requests(str(small_folder), 2))
    (tmp_path / FILE).write_bytes(b"not a database" * 100)
    with pytest.raises(BadLedger, match="is not a ledger"):
        run(tmp_path, engine)


def test_a_stop_gives_back_what_was_claimed(tmp_path: Path, engine: Engine, small_folder: Path) -> None:
    start(tmp_path, engine, requests(str(small_folder), 4))

    def stop(_event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worker.work(tmp_path, engine, stop)
    ledger = Ledger(tmp_path)
    assert [one.attempts for one in ledger.entries()] == [0] * 4
    ledger.close()
    assert counts(tmp_path) == {State.DONE: 1, State.WAITING: 3}


def test_the_ledger_is_on_the_disk_before_it_is_relied_on(tmp_path: Path, engine: Engine, small_folder: Path) -> None:
    start(tmp_path, engine, requests(str(small_folder), 1))
    ledger = Ledger(tmp_path)
    told = {name: ledger._db.execute(f"PRAGMA {name}").fetchone() for name in ("journal_mode", "synchronous")}  # noqa: SLF001
    ledger.close()
    assert told == {"journal_mode": ("wal",), "synchronous": (2,)}  # 2: FULL


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, engine: Engine, small_folder: Path) -> Path:
    """Three jobs, all done."""
    folder = tmp_path_factory.mktemp("finished")
    start(folder, engine, requests(str(small_folder), 3))
    run(folder, engine)
    assert verified(folder) == []
    return folder


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("number", 99),
        ("digest", "f" * 64),
        ("request", "other"),
        ("go", 99),
        ("file", "other.png"),
        ("state", "waiting"),
        ("state", "failed"),
        ("apart", 1),
        ("attempts", 1),
        ("owner", "x"),
        ("error", "x"),
        ("sha256", "0" * 64),
        ("sha256", None),
        ("pixels_sha256", "0" * 64),
        ("pixels_sha256", None),
        ("seconds", None),
    ],
)
def test_verify_finds_an_edited_ledger(column: str, value: object, tmp_path: Path, finished: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "copy")
    db = sqlite3.connect(folder / FILE)
    if value == "other":
        value = db.execute("SELECT request FROM jobs WHERE number = 2").fetchone()[0]
    db.execute(f"UPDATE jobs SET {column} = ? WHERE number = 1", (value,))
    db.commit()
    db.close()
    assert verified(folder)


@pytest.mark.parametrize("harm", ["change", "delete", "add", "swap"])
def test_verify_finds_harm(harm: str, tmp_path: Path, engine: Engine, small_folder: Path) -> None:
    start(tmp_path, engine, requests(str(small_folder), 2))
    run(tmp_path, engine)
    first, second = sorted(tmp_path.glob("*.png"))
    if harm == "change":
        data = bytearray(first.read_bytes())
        data[len(data) // 2] ^= 1
        first.write_bytes(data)
    elif harm == "delete":
        first.unlink()
    elif harm == "add":
        (tmp_path / "stranger.txt").write_text("x")
    else:
        kept = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(kept)
    assert len(verified(tmp_path)) == (2 if harm == "swap" else 1)
