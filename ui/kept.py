"""What the history keeps, and what its rows say: a row of another version, or a damaged one, is an error of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import TypeAdapter

from composer.outline import Outline
from composer.record import RenderRecord
from composer.request import RenderRequest
from lora_zoo.foreign import documents
from lora_zoo.foreign.documents import Bounds
from pipelines.jobs.states import State
from ui.errors import DamagedRow

OUTLINE = TypeAdapter(Outline)
_T = TypeVar("_T")
_BOUNDS = Bounds(length=1 << 28)  # one row has all requests of a job


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


def job(row: sqlite3.Row) -> Job:
    """Return the job of a row; `DamagedRow` if it is none that can be read."""
    return _row(_job, row, "job")


def state(row: sqlite3.Row) -> State:
    """Return a job's state; `DamagedRow` if it is none."""
    return _row(lambda found: State(found["state"]), row, "job")


def kept(row: sqlite3.Row) -> Kept:
    """Return the picture of a row; `DamagedRow` if it is none that can be read."""
    return _row(_kept, row, "picture")


def _row(read: Callable[[sqlite3.Row], _T], row: sqlite3.Row, what: str) -> _T:
    """Return what a row stands for; whatever is wrong with it is `DamagedRow`."""
    try:
        return read(row)
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        RecursionError,
    ) as error:  # as parsers raise them
        brief = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DamagedRow(
            f"{what} {row['id']} was written by another version of Medley, or is damaged, and is left out ({brief})"
        ) from error


def _parsed(row: sqlite3.Row, column: str) -> Any:
    return documents.json_value(row[column], column, _BOUNDS)


def _job(row: sqlite3.Row) -> Job:
    requests = tuple(RenderRequest.model_validate(one) for one in _parsed(row, "requests"))
    labels, columns, rows = (tuple(map(str, one)) for one in _parsed(row, "labels"))
    asked = Asked(requests, row["kind"], row["title"], row["owner"], labels, columns, rows)
    return Job(row["id"], row["place"], asked, State(row["state"]), row["attempts"], row["error"], row["created"])


def listed(row: sqlite3.Row) -> Listed:
    """Return a line of the list of jobs; one whose row cannot be read says so."""
    try:
        names = tuple(str(use["name"]) for use in _parsed(row, "adapters"))
        told = (State(row["state"]), row["error"], int(row["pictures"]), str(row["prompt"]), str(row["method"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        names = ()
        told = (State.FAILED, row["error"] or "its row in the history cannot be read", 0, "", "")
    return Listed(row["id"], row["kind"], row["title"], *told, names, row["created"])


def _kept(row: sqlite3.Row) -> Kept:
    record = RenderRecord.model_validate(_parsed(row, "record"))
    outline = OUTLINE.validate_python(_parsed(row, "outline")) if row["outline"] else None
    findings = {str(name): str(data) for name, data in dict(_parsed(row, "findings")).items()}
    found = (findings, outline)
    return Kept(row["id"], row["job"], row["position"], record, row["seconds"], row["created"], *found)
