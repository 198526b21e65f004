"""Batches of the minute test model, and what their folders hold."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from composer.request import RenderRequest
from pipelines.engine import Engine
from pipelines.jobs import identity
from pipelines.jobs.base import FILE
from pipelines.jobs.ledger import Ledger
from pipelines.jobs.planning import Job, together
from tests.requests import ask, uses

METHODS = ("merge", "switch", "composite")


def requests(model: str, count: int) -> list[RenderRequest]:
    """Return requests of mixed methods, LoRA sets and step counts."""
    return [
        ask(
            model,
            method=METHODS[n % 3],
            adapters=uses(1 + n % 3, first=n % 2),
            num_inference_steps=2 + n % 2,
            seed=n,
        )
        for n in range(count)
    ]


def start(folder: Path, engine: Engine, asked: list[RenderRequest]) -> None:
    """Write a batch's ledger."""
    resolved = [engine.resolve(one) for one in asked]
    jobs = [Job(identity.digest(one), one.request) for one in resolved]
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(folder, create=True)
    ledger.add(together(jobs))
    ledger.close()


def tree(folder: Path) -> dict[str, str]:
    """Return all that a batch left: digests of files, and the ledger's rows without what the clock said."""
    found = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(FILE)
    }
    db = sqlite3.connect(folder / FILE)
    columns = "number, digest, request, go, file, state, apart, attempts, owner, error, sha256, pixels_sha256"
    rows = db.execute(f"SELECT {columns} FROM jobs ORDER BY number").fetchall()
    db.close()
    return {**found, FILE: repr(rows)}


def child(act: Callable[[], None]) -> int:
    """Run something in a forked process; return how it ended, as waitpid says."""
    return os.waitpid(begun(act), 0)[1]


def begun(act: Callable[[], None]) -> int:
    """Begin something in a forked process; return its number."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    return pid
