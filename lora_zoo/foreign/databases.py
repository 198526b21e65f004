"""Open SQLite databases that somebody else may have made, or that came with a folder from elsewhere."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Literal

from lora_zoo.errors import BadFile, ZooError
from lora_zoo.foreign import files


def connected(
    path: Path,
    wait: float,
    within: Path | None = None,
    *,
    isolation_level: Literal["DEFERRED"] | None = None,
    any_thread: bool = False,
    error: type[ZooError] = BadFile,
) -> sqlite3.Connection:
    """Return a connection to a database, which is made where there is none.

    Args:
        path: The file.
        wait: Seconds that another program's transaction is waited for.
        within: The folder that the file may not lead out of.
        isolation_level: "DEFERRED": changes begin a transaction by themselves; None: the caller begins them.
        any_thread: Let threads take turns; who shares it sees to that.
        error: The type of error to raise.

    Raises:
        ZooError: Of the type asked for, if what is there is no regular file, or lies outside `within`.
        sqlite3.Error: It cannot be opened. What it holds is only looked at as it is asked.
    """
    # looked at and not opened: closing another handle of a database takes SQLite's locks of it away
    files.check_place(path, within, error)
    files.check_regular(path, error)
    found = sqlite3.connect(path, timeout=wait, isolation_level=isolation_level, check_same_thread=not any_thread)
    found.execute("PRAGMA trusted_schema = OFF")  # views and triggers of a stranger's call no function with effects
    return found
