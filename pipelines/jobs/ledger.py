"""The ledger of a batch: an SQLite file in its folder that says of every job what it is and how far it got.

Durable before it is relied on: `synchronous=FULL`, every change in a transaction of its own. A job is claimed by a
process that holds a lock file for as long as it lives; when the lock is free, the process is dead and its jobs are
waiting again. Attempts are counted at the claim, so that a job which kills its process is known by that.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from composer.request import RenderRequest
from pipelines.jobs import entries as rows_of
from pipelines.jobs.base import Base
from pipelines.jobs.entries import COLUMNS, Damaged, Entry, file_name
from pipelines.jobs.owners import Owners
from pipelines.jobs.planning import Job
from pipelines.jobs.states import State

MOST_ATTEMPTS = 3


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


class Ledger(Base):
    """A batch's memory. Any number of processes may have it open.

    Raises:
        BadLedger: There is no ledger in the folder, or it is empty, damaged, another program's or of another version.
        OSError: The file cannot be opened, read or written, in this and in every method.
    """

    def __init__(self, folder: Path, create: bool = False) -> None:
        self.folder = folder
        self.owners = Owners(folder)
        super().__init__(folder, create)

    def add(self, goes: Sequence[Sequence[Job]], suffix: str = "png") -> int:
        """Write the jobs that are not there yet, their pictures to be of a kind; return how many were new."""
        with self.writing() as db:
            known = {row[0] for row in db.execute("SELECT digest FROM jobs")}
            number, go = db.execute("SELECT coalesce(max(number), 0), coalesce(max(go), 0) FROM jobs").fetchone()
            first = number
            for some in goes:
                fresh = [job for job in some if job.digest not in known]
                go += bool(fresh)
                for job in fresh:
                    number += 1
                    name = file_name(number, job, suffix)
                    row = (number, job.digest, job.request.model_dump_json(), go, name, State.WAITING)
                    db.execute("INSERT INTO jobs (number, digest, request, go, file, state) VALUES (?,?,?,?,?,?)", row)
        return number - first

    def mend(self, jobs: Iterable[Job], suffix: str = "png") -> list[str]:
        """Write the damaged rows of these jobs anew, to be done again; return their files."""
        damaged = {row.digest: row for row in self.damaged()}
        mended: list[str] = []
        for job in jobs:
            if job.digest in damaged:
                row = damaged[job.digest]
                mended.append(file_name(row.number, job, suffix))
                with self.writing() as db:
                    db.execute(
                        "UPDATE jobs SET request = ?, file = ?, state = 'waiting', apart = 0, attempts = 0,"
                        " owner = NULL, error = NULL, sha256 = NULL, pixels_sha256 = NULL, seconds = NULL"
                        " WHERE number = ?",
                        (job.request.model_dump_json(), mended[-1], row.number),
                    )
        return mended

    def suffix(self) -> str | None:
        """Return the kind of file that the batch's pictures are; None if it has no jobs yet."""
        first = self.asked("SELECT min(file) FROM jobs")[0][0]
        return None if first is None else str(first).rpartition(".")[2]

    def salt(self, own: str | None = None) -> str | None:
        """Return what the seeds of this batch are drawn with; `own` is kept if there is none yet."""
        if own is not None:
            with self.writing() as db:
                db.execute("CREATE TABLE IF NOT EXISTS salts (salt TEXT NOT NULL) STRICT")
                db.execute("INSERT INTO salts SELECT ? WHERE NOT EXISTS (SELECT 1 FROM salts)", (own,))
        if not self.asked("SELECT 1 FROM sqlite_schema WHERE name = 'salts'"):
            return None
        return next((str(row[0]) for row in self.asked("SELECT salt FROM salts")), None)

    def add_grid(self, content: str) -> None:
        """Write a grid, unless it is there."""
        with self.writing() as db:
            number = db.execute("SELECT coalesce(max(number), 0) + 1 FROM grids").fetchone()[0]
            row = (number, f"grid-{number:04d}.png", content)
            db.execute("INSERT OR IGNORE INTO grids (number, file, content) VALUES (?,?,?)", row)

    def grids(self) -> list[tuple[str, str]]:
        """Return file and content of every grid."""
        return [(row[0], row[1]) for row in self.asked("SELECT file, content FROM grids ORDER BY number")]

    def claim(self, owner: str, choose: Choose = min) -> Claim | None:
        """Take the next jobs for a process; None if none is waiting.

        All of a go are taken, as they were planned. A go that killed its process before its last chance, or that
        raised, is taken apart: its jobs come one by one.
        """
        with self.writing() as db:
            self._free_the_dead(db)
            while True:
                rows = db.execute(
                    "SELECT go, max(apart), max(attempts) FROM jobs WHERE state = 'waiting'"
                    " GROUP BY go ORDER BY go LIMIT ?",
                    (_OFFERED,),
                ).fetchall()
                if not rows:
                    return None
                chosen = choose([row[0] for row in rows])
                go, apart, attempts = next(row for row in rows if row[0] == chosen)
                entries = self._sound(db, go)
                waiting = [one for one in entries if one.state is State.WAITING]
                if waiting:
                    break
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
        rows = self._rows("go = ? ORDER BY number", (go,))
        return [row.request for row in rows if isinstance(row, Entry)]

    def finish(self, number: int, made: Picture) -> None:
        """Note that a picture is on the disk. What it took to get there is forgotten."""
        with self.writing() as db:
            db.execute(
                "UPDATE jobs SET state = 'done', owner = NULL, error = NULL, attempts = 0, apart = 0,"
                " sha256 = ?, pixels_sha256 = ?, seconds = ? WHERE number = ?",
                (made.sha256, made.pixels_sha256, made.seconds, number),
            )

    def fail(self, number: int, error: str) -> None:
        """Note that a job, alone in its call, raised an error."""
        with self.writing() as db:
            db.execute("UPDATE jobs SET state = 'failed', owner = NULL, error = ? WHERE number = ?", (error, number))

    def release(self, owner: str, apart: bool = False) -> None:
        """Give back what a process has claimed: it lives, so its attempt does not count."""
        with self.writing() as db:
            db.execute(
                "UPDATE jobs SET state = 'waiting', owner = NULL, attempts = attempts - 1, apart = max(apart, ?)"
                " WHERE state = 'running' AND owner = ?",
                (int(apart), owner),
            )

    def retry(self) -> int:
        """Give failed and quarantined jobs a new start, one by one; return how many there were."""
        with self.writing() as db:
            return db.execute(
                "UPDATE jobs SET state = 'waiting', error = NULL, attempts = 0, apart = 1"
                " WHERE state IN ('failed', 'quarantined')"
            ).rowcount

    def renew(self, numbers: Sequence[int]) -> None:
        """Have these done jobs done again; until then their pictures stay, and are no longer known."""
        with self.writing() as db:
            db.executemany(
                "UPDATE jobs SET state = 'waiting', sha256 = NULL, pixels_sha256 = NULL, seconds = NULL"
                " WHERE state = 'done' AND number = ?",
                [(number,) for number in numbers],
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep all other processes from changing the ledger meanwhile; if this one dies, they no longer wait."""
        with self.writing():
            yield

    def counts(self) -> dict[State, int]:
        """Return how many jobs are in each state."""
        rows = {row[0]: row[1] for row in self.asked("SELECT state, count(*) FROM jobs GROUP BY state")}
        return {state: rows.get(state.value, 0) for state in State if state is not State.CANCELLED}

    def entries(self) -> list[Entry]:
        """Return all jobs whose rows can be read, in their order."""
        return [row for row in self._rows() if isinstance(row, Entry)]

    def damaged(self) -> list[Damaged]:
        """Return the rows that cannot be read."""
        return [row for row in self._rows() if isinstance(row, Damaged)]

    def files(self) -> set[str]:
        """Return the names of all files that belong to the batch, also of those whose rows are damaged."""
        return {str(row[0]) for row in self.asked("SELECT file FROM jobs UNION ALL SELECT file FROM grids")}

    def integrity(self) -> list[str]:
        """Return what SQLite finds wrong with the file, and rows that no command of ours leaves behind."""
        found = [str(row[0]) for row in self.asked("PRAGMA integrity_check")]
        odd = self.asked(_ODD)
        return [*([] if found == ["ok"] else found), *(f"the row of job {row[0]} contradicts itself" for row in odd)]

    def _free_the_dead(self, db: sqlite3.Connection) -> None:
        rows = db.execute("SELECT DISTINCT owner FROM jobs WHERE state = 'running'").fetchall()
        for dead in [owner for (owner,) in rows if not self.owners.lives(owner)]:
            db.execute(
                "UPDATE jobs SET owner = NULL, state = iif(attempts >= ?, 'quarantined', 'waiting'),"
                " error = iif(attempts >= ?, 'the process died ' || attempts || ' times', NULL)"
                " WHERE state = 'running' AND owner = ?",
                (MOST_ATTEMPTS, MOST_ATTEMPTS, dead),
            )

    def _rows(self, where: str = "1 ORDER BY number", values: tuple[object, ...] = ()) -> list[Entry | Damaged]:
        return [rows_of.read(row) for row in self.asked(f"SELECT {COLUMNS} FROM jobs WHERE {where}", values)]

    def _sound(self, db: sqlite3.Connection, go: int) -> list[Entry]:
        """Return a go's jobs; what cannot be read, and waits, has failed."""
        rows = self._rows("go = ? ORDER BY number", (go,))
        for row in rows:
            if isinstance(row, Damaged) and row.state is State.WAITING:
                db.execute("UPDATE jobs SET state = 'failed', error = ? WHERE number = ?", (row.why, row.number))
        return [row for row in rows if isinstance(row, Entry)]
