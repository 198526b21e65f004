"""The index on disk: SQLite, so that thousands of files are listed at once and several programs may look and scan.

It holds nothing that a scan does not find again: one of another version is made anew.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sqlite3
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple, cast

from pydantic import TypeAdapter

from lora_zoo import profiles
from lora_zoo.errors import BadFile
from lora_zoo.foreign import databases
from lora_zoo.foreign.text import escaped
from lora_zoo.index.rows import Facts, Row, spelled
from lora_zoo.names import Named
from lora_zoo.profiles import Profile

_VERSION = 5
_WAIT = 10.0  # seconds for another program's transaction
_COLUMNS = ("path", "root", "name", "stamp", "beside_stamp", "size", "inode", "error", "facts")
_LOOKUPS = ("alias", "sha256", "autov3", "sshs")
_SCHEMA = f"""
DROP TABLE IF EXISTS loras;
CREATE TABLE loras (
    path BLOB NOT NULL, root BLOB NOT NULL, name BLOB NOT NULL,
    stamp TEXT NOT NULL, beside_stamp TEXT NOT NULL, size INTEGER NOT NULL, inode TEXT NOT NULL,
    error TEXT NOT NULL, facts TEXT, alias TEXT, sha256 TEXT, autov3 TEXT, sshs TEXT,
    PRIMARY KEY (root, path)  -- a folder may be scanned for itself and as part of another
) WITHOUT ROWID;
CREATE INDEX by_name ON loras (name);
CREATE INDEX by_alias ON loras (alias);
CREATE INDEX by_sha256 ON loras (sha256);
CREATE INDEX by_autov3 ON loras (autov3);
CREATE INDEX by_sshs ON loras (sshs);
PRAGMA user_version = {_VERSION};
"""
#: Measured, not read, and so kept when the rest is made anew.
_PROFILES = "CREATE TABLE IF NOT EXISTS profiles (sha256 TEXT PRIMARY KEY, profile TEXT NOT NULL) WITHOUT ROWID"
_FACTS = TypeAdapter(Facts)


class Known(NamedTuple):
    """What a scan must know of a row to see whether it still holds."""

    stamp: str
    beside_stamp: str
    refused: bool


class Store:
    """The rows of all folders ever scanned. Every question opens the file for itself, so any thread may ask."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as base:
            base.execute("PRAGMA journal_mode = WAL")
            base.execute(_PROFILES)
            if base.execute("PRAGMA user_version").fetchone() != (_VERSION,):
                base.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")

    def names(self, roots: Sequence[Path]) -> list[Named]:
        """Return what the LoRAs of these folders are called, in the order of their paths, without all else."""
        marks = ", ".join("?" * len(roots))
        asked = f"SELECT path, root, name, stamp, error, alias, sha256 FROM loras WHERE root IN ({marks}) ORDER BY path"
        with self._open() as base:
            found = base.execute(asked, tuple(map(os.fsencode, roots)))
            return [Named(*map(os.fsdecode, row[:3]), *row[3:]) for row in found]

    def rows(self, roots: Sequence[Path]) -> list[Row]:
        """Return the rows of these folders, in the order of their paths."""
        return self._select("TRUE", (), roots)

    def known(self, root: Path) -> dict[str, Known]:
        """Return what there is below a folder, by path; thousands of rows in little time."""
        asked = "SELECT path, stamp, beside_stamp, error != '' FROM loras WHERE root = ?"
        with self._open() as base:
            found = base.execute(asked, (os.fsencode(root),))
            return {os.fsdecode(path): Known(stamp, beside, bool(bad)) for path, stamp, beside, bad in found}

    def at(self, path: str, root: Path) -> Row | None:
        """Return the row of a path."""
        return next(iter(self._select("path = ?", (os.fsencode(path),), [root])), None)

    def named(self, name: str, roots: Sequence[Path]) -> list[Row]:
        """Return the rows of this name; if there are none, those that A1111 knows by it too."""
        name = spelled(name)
        found = self._select("name = ?", (os.fsencode(name),), roots)
        return found or self._select("alias = ?", (escaped(name),), roots)

    def hashed(self, digest: str, roots: Sequence[Path]) -> list[Row]:
        """Return the rows one of whose hashes begins with these digits."""
        columns = ("sha256", "autov3", "sshs")
        where = " OR ".join(f"({column} >= ? AND {column} < ?)" for column in columns)
        return self._select(where, (digest, f"{digest}g") * len(columns), roots)

    def put(self, rows: Iterable[Row]) -> None:
        """Add rows, or replace those of the same paths, all at once."""
        columns = (*_COLUMNS, *_LOOKUPS)
        marks = ", ".join("?" * len(columns))
        with self._open() as base, base:
            base.executemany(f"REPLACE INTO loras ({', '.join(columns)}) VALUES ({marks})", map(_values, rows))

    def drop(self, root: Path, paths: Iterable[str]) -> None:
        """Forget rows of a folder."""
        which = [(os.fsencode(root), os.fsencode(path)) for path in paths]
        with self._open() as base, base:
            base.executemany("DELETE FROM loras WHERE root = ? AND path = ?", which)

    def profile(self, digest: str) -> Profile | None:
        """Return the frequency profile of a file's content."""
        with self._open() as base:
            found = base.execute("SELECT profile FROM profiles WHERE sha256 = ?", (digest,)).fetchone()
        return None if found is None else profiles.parse(json.loads(found[0]), f"{self.path}: profile {digest}")

    def put_profile(self, digest: str, profile: Profile) -> None:
        with self._open() as base, base:
            base.execute("REPLACE INTO profiles VALUES (?, ?)", (digest, json.dumps(profile)))

    def _select(self, where: str, values: Sequence[bytes | str], roots: Sequence[Path]) -> list[Row]:
        marks = ", ".join("?" * len(roots))
        asked = f"SELECT {', '.join(_COLUMNS)} FROM loras WHERE ({where}) AND root IN ({marks}) ORDER BY path"
        with self._open() as base:
            found = base.execute(asked, (*values, *map(os.fsencode, roots)))
            return list({row.path: row for row in map(_row, found)}.values())

    @contextmanager
    def _open(self) -> Generator[sqlite3.Connection]:
        try:
            with closing(databases.connected(self.path, _WAIT, isolation_level="DEFERRED")) as base:
                base.execute("PRAGMA synchronous = NORMAL")
                yield base
        except sqlite3.DatabaseError as error:
            raise BadFile(
                f"{self.path}: the index of scanned folders cannot be used ({error}); "
                "it may be deleted, the next scan makes it anew"
            ) from error


def default_path() -> Path:
    """Return where the index lies: MEDLEY_CACHE, or a folder in the user's own cache."""
    if stated := os.environ.get("MEDLEY_CACHE"):
        return Path(stated) / "zoo.sqlite"
    home = Path.home()
    usual = {"win32": home / "AppData" / "Local", "darwin": home / "Library" / "Caches"}.get(sys.platform)
    base = usual or Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "medley" / "zoo.sqlite"


def _values(row: Row) -> tuple[bytes | str | int | None, ...]:
    facts = row.facts
    looked_up = (None,) * len(_LOOKUPS)
    if facts is not None:
        hashes = facts.hashes
        looked_up = (escaped(spelled(facts.alias)) or None, hashes.sha256, hashes.autov3, hashes.sshs_model)
    return (
        *(os.fsencode(text) for text in (row.path, row.root, row.name)),
        *(row.stamp, row.beside_stamp, row.size, row.inode, row.error),
        None if facts is None else json.dumps(dataclasses.asdict(facts)),  # ASCII: holds any path
        *looked_up,
    )


def _row(found: Sequence[object]) -> Row:
    path, root, name, stamp, beside_stamp, size, inode, error, facts = found
    known = None if facts is None else _FACTS.validate_python(json.loads(cast(str, facts)))
    return Row(
        path=os.fsdecode(cast(bytes, path)),
        root=os.fsdecode(cast(bytes, root)),
        name=os.fsdecode(cast(bytes, name)),
        stamp=cast(str, stamp),
        beside_stamp=cast(str, beside_stamp),
        size=cast(int, size),
        inode=cast(str, inode),
        error=cast(str, error),
        facts=known,
    )
