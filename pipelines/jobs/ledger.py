"""The ledger of a batch: an SQLite file in its folder that says of every job what it is and how far it got.

Durable before it is relied on: `synchronous=FULL`, every change in a transaction of its own. A job is claimed by a
process that holds a lock file for as long as it lives; when the lock is free, the process is dead and its jobs are
waiting again. Attempts are counted at the claim, so that a job which kills its process is known by that.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from composer.request import RenderRequest
from pipelines.jobs.errors import BadLedger
from pipelines.jobs.owners import Owners
from pipelines.jobs.planning import Job
from pipelines.jobs.states import State

FILE = "ledger.sqlite"
_VERSION = 1
MOST_ATTEMPTS = 3
_SCHEMA = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    request TEXT NOT NULL,
    go INTEGER NOT NULL,
    file TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'failed', 'quarantined')),
    apart INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    owner TEXT,
    error TEXT,
    sha256 TEXT,
    pixels_sha256 TEXT,
    seconds REAL
) STRICT;
CREATE INDEX jobs_by_state ON jobs (state, go);
CREATE TABLE grids (
    number INTEGER PRIMARY KEY,
    file TEXT NOT NULL UNIQUE,
    content TEXT NOT NULL UNIQUE
) STRICT;
"""


@dataclass(frozen=True)
class Entry:
    """One job as the ledger knows it."""

    number: int
    digest: str
    request: RenderRequest
    go: int
    file: str
    state: State
    attempts: int
    error: str | None
    sha256: str | None
    pixels_sha256: str | None
    seconds: float | None


def file_name(number: int, job: Job | Entry) -> str:
    """Return what the file of a job's picture is called."""
    return f"{number:06d}-{job.request.method}-{job.digest[:10]}.png"


@dataclass(frozen=True)
class Claim:
    """Jobs to render in one call, in this order. Some may be done already: they are there for company."""

    entries: tuple[Entry, ...]
    wanted: frozenset[int]  # numbers of the jobs whose pictures are missing


@dataclass(frozen=True)
class Picture:
    """What is known of a picture on the disk."""

    sha256: str
    pixels_sha256: str
    seconds: float


#: Chooses one of several goes that have waiting jobs, the first planned first.
Choose = Callable[[Sequence[int]], int]

#: Rows that cannot be: of a picture that is there all is known, of another nothing; who works has a name; and so on.
_ODD = """
    SELECT number FROM (SELECT *, max(go) OVER (ORDER BY number) AS reached FROM jobs)
    WHERE go < reached
    OR (state = 'done') != (sha256 IS NOT NULL AND pixels_sha256 IS NOT NULL AND seconds IS NOT NULL)
    OR (state != 'done' AND coalesce(sha256, pixels_sha256, seconds) IS NOT NULL)
    OR (state = 'done' AND (attempts != 0 OR apart != 0))
    OR (state = 'running') != (owner IS NOT NULL)
    OR (state IN ('failed', 'quarantined')) != (error IS NOT NULL)
    ORDER BY number
"""
_OFFERED = 64  # goes that are chosen from
_COLUMNS = "number, digest, request, go, file, state, attempts, error, sha256, pixels_sha256, seconds"


class Ledger:
    """A batch's memory. Any number of processes may have it open."""

    def __init__(self, folder: Path, create: bool = False) -> None:
        path = folder / FILE
        if not create and not path.is_file():
            raise BadLedger(f"there is no batch in {folder}: it holds no {FILE}")
        self.folder = folder
        self.owners = Owners(folder)
        try:
            self._db = sqlite3.connect(path, timeout=60.0, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._prepare()
        except sqlite3.DatabaseError as error:
            raise BadLedger(f"{path} is not a ledger: {error}") from error

    def close(self) -> None:
        self._db.close()

    def add(self, goes: Sequence[Sequence[Job]]) -> int:
        """Write the jobs that are not there yet; return how many were new."""
        with self._writing() as db:
            known = {row[0] for row in db.execute("SELECT digest FROM jobs")}
            number, go = db.execute("SELECT coalesce(max(number), 0), coalesce(max(go), 0) FROM jobs").fetchone()
            first = number
            for some in goes:
                fresh = [job for job in some if job.digest not in known]
                go += bool(fresh)
                for job in fresh:
                    number += 1
                    name = file_name(number, job)
                    row = (number, job.digest, job.request.model_dump_json(), go, name, State.WAITING)
                    db.execute("INSERT INTO jobs (number, digest, request, go, file, state) VALUES (?,?,?,?,?,?)", row)
        return number - first

    def add_grid(self, content: str) -> None:
        """Write a grid, unless it is there."""
        with self._writing() as db:
            number = db.execute("SELECT coalesce(max(number), 0) + 1 FROM grids").fetchone()[0]
            row = (number, f"grid-{number:04d}.png", content)
            db.execute("INSERT OR IGNORE INTO grids (number, file, content) VALUES (?,?,?)", row)

    def grids(self) -> list[tuple[str, str]]:
        """Return file and content of every grid."""
        return self._db.execute("SELECT file, content FROM grids ORDER BY number").fetchall()

    def claim(self, owner: str, choose: Choose = min) -> Claim | None:
        """Take the next jobs for a process; None if none is waiting.

        All of a go are taken, as they were planned. A go that killed its process before its last chance, or that
        raised, is taken apart: its jobs come one by one.
        """
        with self._writing() as db:
            self._free_the_dead(db)
            rows = db.execute(
                "SELECT go, max(apart), max(attempts) FROM jobs WHERE state = 'waiting'"
                " GROUP BY go ORDER BY go LIMIT ?",
                (_OFFERED,),
            ).fetchall()
            if not rows:
                return None
            chosen = choose([row[0] for row in rows])
            go, apart, attempts = next(row for row in rows if row[0] == chosen)
            entries = self._entries(db, "go = ? ORDER BY number", (go,))
            waiting = [one for one in entries if one.state is State.WAITING]
            if apart or attempts >= MOST_ATTEMPTS - 1:
                entries = waiting = waiting[:1]
            for one in waiting:
                db.execute(
                    "UPDATE jobs SET state = 'running', owner = ?, attempts = attempts + 1 WHERE number = ?",
                    (owner, one.number),
                )
        return Claim(tuple(entries), frozenset(one.number for one in waiting))

    def requests(self, go: int) -> list[RenderRequest]:
        """Return what a go asks for; it is never changed once it is planned."""
        return [one.request for one in self._entries(self._db, "go = ? ORDER BY number", (go,))]

    def finish(self, number: int, made: Picture) -> None:
        """Note that a picture is on the disk. What it took to get there is forgotten."""
        with self._writing() as db:
            db.execute(
                "UPDATE jobs SET state = 'done', owner = NULL, error = NULL, attempts = 0, apart = 0,"
                " sha256 = ?, pixels_sha256 = ?, seconds = ? WHERE number = ?",
                (made.sha256, made.pixels_sha256, made.seconds, number),
            )

    def fail(self, number: int, error: str) -> None:
        """Note that a job, alone in its call, raised an error."""
        with self._writing() as db:
            db.execute("UPDATE jobs SET state = 'failed', owner = NULL, error = ? WHERE number = ?", (error, number))

    def release(self, owner: str, apart: bool = False) -> None:
        """Give back what a process has claimed: it lives, so its attempt does not count."""
        with self._writing() as db:
            db.execute(
                "UPDATE jobs SET state = 'waiting', owner = NULL, attempts = attempts - 1, apart = max(apart, ?)"
                " WHERE state = 'running' AND owner = ?",
                (int(apart), owner),
            )

    def retry(self) -> int:
        """Give failed and quarantined jobs a new start, one by one; return how many there were."""
        with self._writing() as db:
            return db.execute(
                "UPDATE jobs SET state = 'waiting', error = NULL, attempts = 0, apart = 1"
                " WHERE state IN ('failed', 'quarantined')"
            ).rowcount

    def renew(self, numbers: Sequence[int]) -> None:
        """Have these done jobs done again; until then their pictures stay, and are no longer known."""
        with self._writing() as db:
            db.executemany(
                "UPDATE jobs SET state = 'waiting', sha256 = NULL, pixels_sha256 = NULL, seconds = NULL"
                " WHERE state = 'done' AND number = ?",
                [(number,) for number in numbers],
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep all other processes from changing the ledger meanwhile; if this one dies, they no longer wait."""
        with self._writing():
            yield

    def counts(self) -> dict[State, int]:
        """Return how many jobs are in each state."""
        rows = dict(self._db.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall())
        return {state: rows.get(state.value, 0) for state in State if state is not State.CANCELLED}

    def entries(self) -> list[Entry]:
        """Return all jobs, in their order."""
        return self._entries(self._db, "1 ORDER BY number", ())

    def integrity(self) -> list[str]:
        """Return what SQLite finds wrong with the file, and rows that no command of ours leaves behind."""
        found = [str(row[0]) for row in self._db.execute("PRAGMA integrity_check")]
        odd = self._db.execute(_ODD).fetchall()
        return [*([] if found == ["ok"] else found), *(f"the row of job {row[0]} contradicts itself" for row in odd)]

    def _prepare(self) -> None:
        with self._writing() as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in _SCHEMA.strip().split(";\n"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {_VERSION}")
            elif version != _VERSION:
                raise BadLedger(f"{self.folder / FILE} is of version {version}; this Medley reads version {_VERSION}")

    def _free_the_dead(self, db: sqlite3.Connection) -> None:
        rows = db.execute("SELECT DISTINCT owner FROM jobs WHERE state = 'running'").fetchall()
        for dead in [owner for (owner,) in rows if not self.owners.lives(owner)]:
            db.execute(
                "UPDATE jobs SET owner = NULL, state = iif(attempts >= ?, 'quarantined', 'waiting'),"
                " error = iif(attempts >= ?, 'the process died ' || attempts || ' times', NULL)"
                " WHERE state = 'running' AND owner = ?",
                (MOST_ATTEMPTS, MOST_ATTEMPTS, dead),
            )

    @staticmethod
    def _entries(db: sqlite3.Connection, where: str, values: tuple[object, ...]) -> list[Entry]:
        rows = db.execute(f"SELECT {_COLUMNS} FROM jobs WHERE {where}", values).fetchall()
        return [
            Entry(row[0], row[1], RenderRequest.model_validate_json(row[2]), row[3], row[4], State(row[5]), *row[6:])
            for row in rows
        ]

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the ledger for one change: all of it happens, or nothing."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:  # of a full disk, SQLite may have taken all back itself
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise OSError(f"the ledger {self.folder / FILE} cannot be written: {error}") from error
            raise
