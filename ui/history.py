"""Jobs and pictures on disk: an SQLite file that outlives the server. The queue is in it, so no job is lost."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from pydantic import TypeAdapter

from composer.outline import Outline
from composer.record import RenderRecord
from composer.request import RenderRequest
from eval.judge.ratings import Vote
from pipelines.jobs.states import State
from ui.base import Base
from ui.errors import NotThere

FILE = "history.sqlite"
_HELD = re.compile("held:([0-9a-f]{64})")
_OUTLINE = TypeAdapter(Outline)


@dataclass(frozen=True)
class Asked:
    """A job as it is handed in: resolved requests, and what they are for."""

    requests: tuple[RenderRequest, ...]
    kind: str = "render"  # render, compare, explain, batch
    title: str = ""
    owner: str = ""  # whose page or client
    labels: tuple[str, ...] = ()  # one per request
    columns: tuple[str, ...] = ()  # of a grid, whose cells are the requests row by row
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """A job as it is kept."""

    id: str
    place: int  # in the queue: lower ones are done first
    asked: Asked
    state: State
    attempts: int
    error: str
    created: float  # seconds since 1970


@dataclass(frozen=True)
class Listed:
    """A job as a list shows it: what its first request asks for, and how many there are."""

    id: str
    kind: str
    title: str
    state: State
    error: str
    pictures: int
    prompt: str
    method: str
    loras: tuple[str, ...]
    created: float


@dataclass(frozen=True)
class Kept:
    """A picture as it is kept; its file is `History.file` of its id."""

    id: str
    job: str
    position: int  # in the job's requests
    record: RenderRecord
    seconds: float
    created: float
    findings: Mapping[str, str] = field(default_factory=dict[str, str])  # what the method saw, as data: addresses
    outline: Outline | None = None  # what acted in which step, where that was known only while it was made


class History:
    """The table of jobs and the pictures made. Any thread may ask."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        self._base = Base(folder / FILE)

    def close(self) -> None:
        self._base.close()

    def recover(self) -> int:
        """Put jobs that a stopped server was at back into the queue; return how many are waiting."""
        self._base.run("UPDATE jobs SET state = ? WHERE state = ?", State.WAITING, State.RUNNING)
        return self.count(State.WAITING)

    def add(self, asked: Asked) -> Job:
        """Write a job down at the end of the queue. When this returns, it is on the disk."""
        with self._base.change():
            place = self._base.one("SELECT coalesce(max(place), 0) + 1 FROM jobs")
            job = Job(uuid4().hex, place, asked, State.WAITING, 0, "", time.time())
            requests = json.dumps([one.model_dump(mode="json") for one in asked.requests])
            row = (
                job.id,
                place,
                asked.kind,
                asked.title,
                asked.owner,
                requests,
                json.dumps([asked.labels, asked.columns, asked.rows]),
            )
            self._base.run(
                "INSERT INTO jobs (id, place, kind, title, owner, requests, labels, state, created) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                *row,
                job.state,
                job.created,
            )
        return job

    def job(self, job: str) -> Job:
        rows = self._base.all("SELECT * FROM jobs WHERE id = ?", job)
        if not rows:
            raise NotThere(f"there is no job {job[:40]!r}")
        return _job(rows[0])

    def state(self, job: str) -> tuple[State, str]:
        """Return a job's state and error, without reading what it asks for."""
        rows = self._base.all("SELECT state, error FROM jobs WHERE id = ?", job)
        if not rows:
            raise NotThere(f"there is no job {job[:40]!r}")
        return State(rows[0]["state"]), rows[0]["error"]

    def open_of(self, owner: str, kind: str) -> list[str]:
        """Return the ids of an owner's jobs that are not over, in their order."""
        where = "owner = ? AND kind = ? AND state IN ('running', 'waiting')"
        return [row["id"] for row in self._base.all(f"SELECT id FROM jobs WHERE {where} ORDER BY place", owner, kind)]

    def jobs(self, limit: int = 100) -> list[Listed]:
        """Return jobs: the open ones in their order, then the newest of the others. No request is read whole."""
        first = "json_extract(requests, '$[0].prompt') AS prompt, json_extract(requests, '$[0].method') AS method, "
        first += "json_extract(requests, '$[0].adapters') AS adapters, json_array_length(requests) AS pictures"
        order = "ORDER BY state NOT IN ('running', 'waiting'), state = 'waiting', "
        order += "CASE WHEN state = 'waiting' THEN place ELSE -created END LIMIT ?"
        columns = f"id, kind, title, state, error, created, {first}"
        return [_listed(row) for row in self._base.all(f"SELECT {columns} FROM jobs {order}", limit)]

    def next(self) -> Job | None:
        """Take the first waiting job and mark it as running."""
        with self._base.change():
            rows = self._base.all("SELECT * FROM jobs WHERE state = ? ORDER BY place LIMIT 1", State.WAITING)
            if rows:
                self._base.run(
                    "UPDATE jobs SET state = ?, attempts = attempts + 1 WHERE id = ?", State.RUNNING, rows[0]["id"]
                )
        return self.job(rows[0]["id"]) if rows else None

    def set_state(self, job: str, state: State, error: str = "") -> None:
        self._base.run("UPDATE jobs SET state = ?, error = ? WHERE id = ?", state, error, job)

    def release(self, job: str) -> None:
        """Put a job back whose server ends in peace: that is no attempt that failed."""
        self._base.run("UPDATE jobs SET state = 'waiting', attempts = attempts - 1 WHERE id = ?", job)

    def requeue(self, job: str) -> None:
        """Put a job that is over at the end of the queue; its pictures stay, only missing ones are made."""
        last = "(SELECT max(place) + 1 FROM jobs)"
        self._base.run(f"UPDATE jobs SET state = 'waiting', error = '', attempts = 0, place = {last} WHERE id = ?", job)

    def withdraw(self, job: str) -> bool:
        """Cancel a job that is still waiting; return whether it was."""
        with self._base.change():
            waiting = self.job(job).state is State.WAITING
            if waiting:
                self.set_state(job, State.CANCELLED)
        return waiting

    def move(self, job: str, up: bool) -> None:
        """Let a waiting job change places with the one before it, or behind it; at the end of the row, stay."""
        with self._base.change():
            place = self.job(job).place
            beside = ("<", "DESC") if up else (">", "ASC")
            rows = self._base.all(
                f"SELECT id, place FROM jobs WHERE state = 'waiting' AND place {beside[0]} ? "
                f"ORDER BY place {beside[1]} LIMIT 1",
                place,
            )
            if rows:
                self._base.run("UPDATE jobs SET place = ? WHERE id = ?", rows[0]["place"], job)
                self._base.run("UPDATE jobs SET place = ? WHERE id = ?", place, rows[0]["id"])

    def count(self, state: State) -> int:
        return self._base.one("SELECT count(*) FROM jobs WHERE state = ?", state)

    def ahead(self, job: str) -> int:
        """Return how many jobs are done before a waiting one."""
        here = "state = 'running' OR (state = 'waiting' AND place < (SELECT place FROM jobs WHERE id = ?))"
        return self._base.one(f"SELECT count(*) FROM jobs WHERE {here}", job)

    def put(self, kept: Kept) -> None:
        """Write a picture down; its file is there already."""
        one = kept.record
        words = " ".join([one.prompt, one.negative_prompt, one.method, *(use.name for use in one.adapters)]).casefold()
        findings = json.dumps(dict(kept.findings))
        outline = "" if kept.outline is None else _OUTLINE.dump_json(kept.outline).decode()
        row = (kept.id, kept.job, kept.position, one.model_dump_json(), kept.seconds, words, kept.created)
        self._base.run("INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", *row, findings, outline)

    def picture(self, picture: str) -> Kept:
        rows = self._base.all("SELECT * FROM pictures WHERE id = ?", picture)
        if not rows:
            raise NotThere(f"there is no picture {picture[:40]!r}")
        return _kept(rows[0])

    def pictures(self, job: str) -> list[Kept]:
        """Return a job's pictures, in the order of its requests."""
        return [_kept(row) for row in self._base.all("SELECT * FROM pictures WHERE job = ? ORDER BY position", job)]

    def search(self, text: str, limit: int = 48, skip: int = 0) -> list[Kept]:
        """Return the newest pictures that hold all the words, in prompt, negative prompt, method or LoRAs."""
        words = text.casefold().split()[:20]
        where = " AND ".join(["instr(words, ?) > 0"] * len(words)) or "1"
        rows = self._base.all(
            f"SELECT * FROM pictures WHERE {where} ORDER BY created DESC, position LIMIT ? OFFSET ?",
            *words,
            limit,
            skip,
        )
        return [_kept(row) for row in rows]

    def held(self) -> set[str]:
        """Return the digests of the pictures that jobs and pictures begin with."""
        texts = "SELECT requests AS text FROM jobs UNION ALL SELECT record FROM pictures"
        rows = self._base.all(f"SELECT text FROM ({texts}) WHERE instr(text, 'held:') > 0")
        return {digest for row in rows for digest in _HELD.findall(row["text"])}

    def file(self, picture: str) -> Path:
        """Return where a picture's file lies; ids are our own, so nothing else can be named."""
        return self.folder / "pictures" / f"{self.picture(picture).id}.png"

    def vote(self, one: Vote) -> None:
        """Keep a blind judgement between two methods; its unit is the job whose pictures were judged."""
        self._base.run("INSERT INTO ballots VALUES (?, ?, ?, ?, ?)", one.unit, one.a, one.b, one.point, time.time())

    def votes(self) -> list[Vote]:
        """Return all judgements, in the order in which they were made."""
        rows = self._base.all("SELECT job, a, b, point FROM ballots ORDER BY created")
        return [Vote(row["job"], row["a"], row["b"], row["point"]) for row in rows]


def _job(row: sqlite3.Row) -> Job:
    requests = tuple(RenderRequest.model_validate(one) for one in json.loads(row["requests"]))
    texts = (tuple(one) for one in json.loads(row["labels"]))
    asked = Asked(requests, row["kind"], row["title"], row["owner"], *texts)
    return Job(row["id"], row["place"], asked, State(row["state"]), row["attempts"], row["error"], row["created"])


def _listed(row: sqlite3.Row) -> Listed:
    names = tuple(str(use["name"]) for use in json.loads(row["adapters"]))
    told = (row["error"], row["pictures"], row["prompt"], row["method"])
    return Listed(row["id"], row["kind"], row["title"], State(row["state"]), *told, names, row["created"])


def _kept(row: sqlite3.Row) -> Kept:
    record = RenderRecord.model_validate_json(row["record"])
    outline = _OUTLINE.validate_json(row["outline"]) if row["outline"] else None
    found = (json.loads(row["findings"]), outline)
    return Kept(row["id"], row["job"], row["position"], record, row["seconds"], row["created"], *found)
