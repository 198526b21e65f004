"""The SQLite file behind the history: its tables, one connection that writes and one that reads, for any thread.

A writer of another program, such as a backup, holds the file for a while now and then. Readers do not wait for it
(write-ahead logging), writers do; one that waits too long raises `CannotStore`, and the same may be tried again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock, get_ident

from lora_zoo.foreign import databases
from ui.errors import CannotStore, DamagedHistory
from ui.news import BOARD

Value = str | float | int

WAIT = 5.0  # seconds that a change waits for another program's
_LOCKED = "database is locked"  # as SQLite says it
_VERSION = 1
_TABLES = {
    "jobs": """
    id TEXT PRIMARY KEY, place INTEGER NOT NULL, kind TEXT NOT NULL, title TEXT NOT NULL, owner TEXT NOT NULL,
    requests TEXT NOT NULL, labels TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '', created REAL NOT NULL""",
    "pictures": """
    id TEXT PRIMARY KEY, job TEXT NOT NULL REFERENCES jobs, position INTEGER NOT NULL, record TEXT NOT NULL,
    seconds REAL NOT NULL, words TEXT NOT NULL, created REAL NOT NULL, findings TEXT NOT NULL,
    outline TEXT NOT NULL DEFAULT '', UNIQUE (job, position)""",
    "ballots": """
    job TEXT NOT NULL, a TEXT NOT NULL, b TEXT NOT NULL, point REAL NOT NULL, created REAL NOT NULL""",
}
_INDEX = "CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, place)"
#: Columns that tables of version 0, which was not written down, may lack.
_ADDED = {"pictures": {"outline": "TEXT NOT NULL DEFAULT ''"}}


class Base:
    """A history file. What a call changes is on the disk when it returns."""

    def __init__(self, file: Path) -> None:
        """Open the file, or make it.

        Raises:
            DamagedHistory: It is no history, is damaged, or is one of a later Medley.
            CannotStore: It cannot be opened or written to.
        """
        self._file = file
        self._writing, self._reading = RLock(), RLock()
        self._writer_thread: int | None = None  # that is in the middle of a change
        with _telling(file, opening=True):
            self._writer = _connected(file)
            try:
                self._writer.execute("PRAGMA journal_mode=WAL")
                self._writer.execute("PRAGMA synchronous=FULL")
                self._prepare()
                self._reader = _connected(file)
            except BaseException:
                self._writer.close()
                raise

    def close(self) -> None:
        with self._writing, self._reading:
            self._reader.close()
            self._writer.close()

    @contextmanager
    def change(self) -> Iterator[None]:
        """Do several things as one."""
        with self._writing, _telling(self._file):
            self._writer.execute("BEGIN IMMEDIATE")
            self._writer_thread = get_ident()
            try:
                yield
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:  # of a full disk, SQLite may have taken all back itself
                    self._writer.execute("ROLLBACK")
                raise
            finally:
                self._writer_thread = None
        BOARD.tell()

    def run(self, sql: str, *values: Value) -> None:
        if self._writer_thread == get_ident():
            self._writer.execute(sql, values)
            return
        with self.change():
            self._writer.execute(sql, values)

    def check_writable(self, seconds: float) -> None:
        """Raise `CannotStore` where a change could not begin within about so many seconds.

        A change of this server's own that is under way is no obstacle: it has the file. One that waits for another
        program's is: it has none yet.
        """
        if not self._writing.acquire(timeout=seconds):
            if self._writer_thread is None:
                raise CannotStore(f"the history cannot be used at the moment: {_LOCKED}")
            return
        try:
            with _telling(self._file):
                self._writer.execute(f"PRAGMA busy_timeout = {round(1000 * seconds)}")
                try:
                    self._writer.execute("BEGIN IMMEDIATE")
                    self._writer.execute("ROLLBACK")
                finally:
                    self._writer.execute(f"PRAGMA busy_timeout = {round(1000 * WAIT)}")
        finally:
            self._writing.release()

    def all(self, sql: str, *values: Value) -> Sequence[sqlite3.Row]:
        """Return rows; in the middle of a change, as it has left them so far."""
        with _telling(self._file):
            if self._writer_thread == get_ident():
                return self._writer.execute(sql, values).fetchall()
            with self._reading:
                return self._reader.execute(sql, values).fetchall()

    def one(self, sql: str, *values: Value) -> int:
        return int(self.all(sql, *values)[0][0])

    def _prepare(self) -> None:
        """Make the tables that are missing, and bring older ones up to date."""
        with self._writing:
            self._writer.execute("BEGIN IMMEDIATE")
            version = int(self._writer.execute("PRAGMA user_version").fetchone()[0])
            if version > _VERSION:
                raise DamagedHistory(
                    f"{self._file} was written by a later Medley (version {version}; this one knows {_VERSION}); "
                    "use that one, or name another folder with --data"
                )
            for table, columns in _TABLES.items():
                self._writer.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns}) STRICT")
                there = {str(row["name"]) for row in self._writer.execute(f"PRAGMA table_info({table})")}
                for name in _ADDED.get(table, {}).keys() - there:
                    self._writer.execute(f"ALTER TABLE {table} ADD COLUMN {name} {_ADDED[table][name]}")
            self._writer.execute(_INDEX)
            self._writer.execute(f"PRAGMA user_version = {_VERSION}")
            self._writer.execute("COMMIT")


def _connected(file: Path) -> sqlite3.Connection:
    found = databases.connected(file, WAIT, any_thread=True, error=DamagedHistory)
    found.row_factory = sqlite3.Row
    return found


@contextmanager
def _telling(file: Path, opening: bool = False) -> Iterator[None]:
    """Raise what SQLite raises as what it means: try again later, or do something about the file."""
    try:
        yield
    except sqlite3.OperationalError as error:
        where = f"the history {file}" if opening else "the history"
        raise CannotStore(f"{where} cannot be used at the moment: {error}") from error
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
            raise CannotStore("the server is being stopped") from error
        if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
            raise  # a mistake of ours
        if opening:
            raise DamagedHistory(
                f"{file} cannot be read ({error}). Move it away, or name another folder with --data: the history then "
                f"begins anew, and the pictures stay in {file.parent / 'pictures'}, each with its settings in it"
            ) from error
        raise DamagedHistory(f"the history is damaged ({error}); restart the server to see what can be done") from error
