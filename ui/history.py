"""Jobs and pictures on disk: an SQLite file that outlives the server. The queue is in it, so no job is lost."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from eval.judge.ratings import Vote
from lora_zoo.foreign import pictures
from pipelines.jobs.states import State
from ui import kept as read
from ui.base import Base
from ui.errors import DamagedRow, NotThere
from ui.kept import Asked, Job, Kept, Listed

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

FILE = "history.sqlite"
_FIRST = "CASE WHEN json_valid(requests) THEN json_extract(requests, '$[0].{0}') END AS {0}"
_LISTED = ", ".join(
    [
        "id, kind, title, state, error, created",
        *map(_FIRST.format, ("prompt", "method", "adapters")),
        "CASE WHEN json_valid(requests) THEN json_array_length(requests) END AS pictures",
    ]
)
_PICTURE = ("id", "job", "position", "record", "seconds", "words", "created", "findings", "outline")
_HELD = re.compile("held:([0-9a-f]{64})")


class History:
    """The table of jobs and the pictures made. Any thread may ask."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        self._base = Base(folder / FILE)
        self._left_out: dict[str, str] = {}

    @property
    def left_out(self) -> Mapping[str, str]:
        """Pictures met so far whose rows cannot be read, by their ids, and why; their files may be whole."""
        return dict(self._left_out)

    def close(self) -> None:
        self._base.close()

    def check_writable(self, seconds: float) -> None:
        """Raise `Unavailable` where nothing could be written down within about so many seconds."""
        self._base.check_writable(seconds)

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
        """Return a job; `NotThere` if there is none, `DamagedRow` if its row cannot be read."""
        rows = self._base.all("SELECT * FROM jobs WHERE id = ?", job)
        if not rows:
            raise NotThere(f"there is no job {job[:40]!r}")
        return read.job(rows[0])

    def state(self, job: str) -> tuple[State, str]:
        """Return a job's state and error, without reading what it asks for."""
        rows = self._base.all("SELECT id, state, error FROM jobs WHERE id = ?", job)
        if not rows:
            raise NotThere(f"there is no job {job[:40]!r}")
        return read.state(rows[0]), rows[0]["error"]

    def open_of(self, owner: str, kind: str) -> list[str]:
        """Return the ids of an owner's jobs that are not over, in their order."""
        where = "owner = ? AND kind = ? AND state IN ('running', 'waiting')"
        return [row["id"] for row in self._base.all(f"SELECT id FROM jobs WHERE {where} ORDER BY place", owner, kind)]

    def open_with(self, text: str) -> int:
        """Return how many jobs that are not over have requests in which a text stands, such as a LoRA's digest."""
        where = "state IN ('running', 'waiting') AND instr(requests, ?) > 0"
        return self._base.one(f"SELECT count(*) FROM jobs WHERE {where}", text)

    def jobs(self, limit: int = 100) -> list[Listed]:
        """Return jobs: the open ones in their order, then the newest of the others. No request is read whole."""
        order = "ORDER BY state NOT IN ('running', 'waiting'), state = 'waiting', "
        order += "CASE WHEN state = 'waiting' THEN place ELSE -created END LIMIT ?"
        return [read.listed(row) for row in self._base.all(f"SELECT {_LISTED} FROM jobs {order}", limit)]

    def next(self) -> Job | None:
        """Take the first waiting job that can be read and mark it as running; those that cannot be are failed."""
        while rows := self._base.all("SELECT id FROM jobs WHERE state = ? ORDER BY place LIMIT 1", State.WAITING):
            job = str(rows[0]["id"])
            try:
                self.job(job)
            except DamagedRow as error:
                log.warning("job %s is put aside: %s", job, error)
                self.set_state(job, State.FAILED, str(error))
                continue
            if self._begun(job):
                return self.job(job)
        return None

    def _begun(self, job: str) -> bool:
        """Mark a job as running; return whether it was still waiting."""
        with self._base.change():
            waiting = self.state(job)[0] is State.WAITING
            if waiting:
                self._base.run("UPDATE jobs SET state = ?, attempts = attempts + 1 WHERE id = ?", State.RUNNING, job)
        return waiting

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
            waiting = self.state(job)[0] is State.WAITING
            if waiting:
                self.set_state(job, State.CANCELLED)
        return waiting

    def move(self, job: str, up: bool) -> None:
        """Let a waiting job change places with the one before it, or behind it; at the end of the row, stay."""
        with self._base.change():
            self.state(job)  # one that is not there is an error
            place = self._base.one("SELECT place FROM jobs WHERE id = ?", job)
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
        outline = "" if kept.outline is None else read.OUTLINE.dump_json(kept.outline).decode()
        row = (kept.id, kept.job, kept.position, one.model_dump_json(), kept.seconds, words, kept.created)
        columns, marks = ", ".join(_PICTURE), ", ".join("?" * len(_PICTURE))
        self._base.run(f"INSERT OR REPLACE INTO pictures ({columns}) VALUES ({marks})", *row, findings, outline)

    def picture(self, picture: str) -> Kept:
        """Return a picture; `NotThere` if there is none, `DamagedRow` if its row cannot be read."""
        rows = self._base.all("SELECT * FROM pictures WHERE id = ?", picture)
        if not rows:
            raise NotThere(f"there is no picture {picture[:40]!r}")
        return read.kept(rows[0])

    def pictures(self, job: str) -> list[Kept]:
        """Return a job's pictures, in the order of its requests; those whose rows cannot be read are left out."""
        return self._kept(self._base.all("SELECT * FROM pictures WHERE job = ? ORDER BY position", job))

    def whole(self, job: str) -> set[int]:
        """Return the places, among a job's requests, of the pictures that can be read and whose files are there."""
        return {kept.position for kept in self.pictures(job) if self._path(kept.id).is_file()}

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
        return self._kept(rows)

    def held(self) -> set[str]:
        """Return the digests of the pictures that jobs and pictures begin with."""
        texts = "SELECT requests AS text FROM jobs UNION ALL SELECT record FROM pictures"
        rows = self._base.all(f"SELECT text FROM ({texts}) WHERE instr(text, 'held:') > 0")
        return {digest for row in rows for digest in _HELD.findall(row["text"])}

    def file(self, picture: str) -> Path:
        """Return where a picture's file lies; ids are our own, so nothing else can be named."""
        path = self._path(self.picture(picture).id)
        if not path.is_file():
            raise NotThere(f"the file of picture {picture[:40]!r} is not there any more")
        return path

    def image(self, picture: str) -> Image:
        """Return a picture's pixels, in RGB."""
        path = self.file(picture)
        return pictures.decoded(path, f"the file of picture {path.stem}", ("PNG",)).convert("RGB")

    def _path(self, picture: str) -> Path:
        return self.folder / "pictures" / f"{picture}.png"

    def _kept(self, rows: Sequence[sqlite3.Row]) -> list[Kept]:
        """Return the pictures of rows; those that cannot be read are left out, and told."""
        found: list[Kept] = []
        for row in rows:
            try:
                found.append(read.kept(row))
            except DamagedRow as error:
                if row["id"] not in self._left_out:
                    log.warning("%s", error)
                self._left_out[str(row["id"])] = str(error)
        return found

    def vote(self, one: Vote) -> None:
        """Keep a blind judgement between two methods; its unit is the job whose pictures were judged."""
        columns = "job, a, b, point, created"
        self._base.run(
            f"INSERT INTO ballots ({columns}) VALUES (?, ?, ?, ?, ?)", one.unit, one.a, one.b, one.point, time.time()
        )

    def votes(self) -> list[Vote]:
        """Return all judgements, in the order in which they were made."""
        rows = self._base.all("SELECT job, a, b, point FROM ballots ORDER BY created")
        return [Vote(row["job"], row["a"], row["b"], row["point"]) for row in rows]
