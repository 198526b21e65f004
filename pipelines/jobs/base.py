"""The SQLite file under a ledger: opened, asked and changed so that every trouble with it is a typed error."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lora_zoo.foreign import databases
from pipelines.jobs.errors import BadLedger, EmptyLedger

FILE = "ledger.sqlite"
_VERSION = 1
_PATIENCE = 60.0  # seconds that another process may hold the file
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
#: How the pictures of batches are called, whichever batch they are of.
_PICTURE = re.compile(r"\d{6,}-\w+-[0-9a-f]{10}\.(?:png|jpeg|webp|avif)")

Row = Sequence[Any]


class Base:
    """An open ledger file. Text in it that is not UTF-8 arrives with halves of characters, for its reader to refuse."""

    def __init__(self, folder: Path, create: bool) -> None:
        self._path = folder / FILE
        if not create and not self._path.is_file():
            raise BadLedger(f"there is no batch in {folder}: it holds no {FILE}")
        try:
            self._db = databases.connected(self._path, _PATIENCE, folder, error=BadLedger)
        except sqlite3.Error as error:
            raise self._typed(error, "opened") from error
        try:
            self._db.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
            fresh = self._check(create)
            self.asked("PRAGMA journal_mode = WAL")
            self.asked("PRAGMA synchronous = FULL")
            if fresh:
                self._prepare()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    def asked(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """Return the rows that answer a question."""
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._typed(error, "read") from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the ledger for one change: all of it happens, or nothing."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:  # of a full disk, SQLite may have taken all back itself
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self._typed(error, "written") from error
            raise

    def _check(self, create: bool) -> bool:
        """Refuse what is no ledger, before anything is written to it; return whether it is to be made."""
        version = self.asked("PRAGMA user_version")[0][0]
        tables = sorted(row[0] for row in self.asked("SELECT name FROM sqlite_schema WHERE type = 'table'"))
        if version not in (0, _VERSION):
            raise BadLedger(f"{self._path} is of version {version}; this Medley reads version {_VERSION}")
        if version == 0 and tables:
            raise BadLedger(f"{self._path} is not a ledger: it holds {', '.join(tables[:5])}")
        if version == 0 and not create:
            raise EmptyLedger(f"{self._path} is empty: it knows none of {_beside(self._path.parent)}")
        return version == 0

    def _prepare(self) -> None:
        with self.writing() as db:
            if db.execute("PRAGMA user_version").fetchone()[0] == 0:  # else another process has made it meanwhile
                for statement in _SCHEMA.strip().split(";\n"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {_VERSION}")

    def _typed(self, error: sqlite3.Error, act: str) -> Exception:
        """Return an error of SQLite's as what it means: trouble with the disk or other processes, or a wrong file."""
        told = str(error)
        if isinstance(error, sqlite3.OperationalError) and not told.startswith("no such"):
            return OSError(f"the ledger {self._path} cannot be {act}: {told}")
        return BadLedger(f"{self._path} is not a ledger, or is damaged: {told}")


def pictures(folder: Path) -> list[str]:
    """Return the files of a folder that are called as the pictures of batches are."""
    return sorted(path.name for path in folder.iterdir() if _PICTURE.fullmatch(path.name))


def _beside(folder: Path) -> str:
    count = len(pictures(folder))
    return f"the {count} pictures beside it; the command that began the batch begins it anew" if count else "any jobs"
