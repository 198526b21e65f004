"""The SQLite file behind the history: its tables, and one connection that any thread may use."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock

from ui.news import BOARD

Value = str | float | int

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, place INTEGER NOT NULL, kind TEXT NOT NULL, title TEXT NOT NULL, owner TEXT NOT NULL,
    requests TEXT NOT NULL, labels TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '', created REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, place);
CREATE TABLE IF NOT EXISTS pictures (
    id TEXT PRIMARY KEY, job TEXT NOT NULL REFERENCES jobs, position INTEGER NOT NULL, record TEXT NOT NULL,
    seconds REAL NOT NULL, words TEXT NOT NULL, created REAL NOT NULL, findings TEXT NOT NULL,
    outline TEXT NOT NULL DEFAULT '',
    UNIQUE (job, position)
) STRICT;
CREATE TABLE IF NOT EXISTS ballots (
    job TEXT NOT NULL, a TEXT NOT NULL, b TEXT NOT NULL, point REAL NOT NULL, created REAL NOT NULL
) STRICT;
"""

#: Columns that came later; they are added at the end of a table of an older server, where they stand in a new one too.
_LATER = {"pictures": {"outline": "TEXT NOT NULL DEFAULT ''"}}


class Base:
    """A connection. What a call changes is on the disk when it returns."""

    def __init__(self, file: Path) -> None:
        self._lock = RLock()
        self._base = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._base.row_factory = sqlite3.Row
        self._base.execute("PRAGMA journal_mode=WAL")
        self._base.execute("PRAGMA synchronous=FULL")
        self._base.executescript(_SCHEMA)
        for table, columns in _LATER.items():
            there = {str(row["name"]) for row in self.all(f"PRAGMA table_info({table})")}
            for name in columns.keys() - there:
                self.run(f"ALTER TABLE {table} ADD COLUMN {name} {columns[name]}")

    def close(self) -> None:
        with self._lock:
            self._base.close()

    @contextmanager
    def change(self) -> Iterator[None]:
        """Do several things as one."""
        with self._lock:
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")
        BOARD.tell()

    def run(self, sql: str, *values: Value) -> None:
        with self._lock:
            self._base.execute(sql, values)
        BOARD.tell()

    def all(self, sql: str, *values: Value) -> Sequence[sqlite3.Row]:
        with self._lock:
            return self._base.execute(sql, values).fetchall()

    def one(self, sql: str, *values: Value) -> int:
        return int(self.all(sql, *values)[0][0])
