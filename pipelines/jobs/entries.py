"""The rows of a ledger as values, and what is wrong with a row that cannot be one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from composer.request import RenderRequest
from lora_zoo.errors import ZooError
from lora_zoo.foreign import documents, text
from pipelines.jobs.errors import BadLedger
from pipelines.jobs.planning import Job
from pipelines.jobs.states import State

COLUMNS = "number, digest, request, go, file, state, attempts, error, sha256, pixels_sha256, seconds"
_NAME = re.compile(r"[^/\\\0]+\.(?:png|jpeg|webp|avif)")


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

    @property
    def suffix(self) -> str:
        """The kind of file that its picture is."""
        return self.file.rpartition(".")[2]


@dataclass(frozen=True)
class Damaged:
    """A row that cannot be read as a job; it is told and left out."""

    number: int
    digest: str
    file: str  # as it can be shown
    state: State
    why: str


def file_name(number: int, job: Job | Entry, suffix: str = "png") -> str:
    """Return what the file of a job's picture is called."""
    return f"{number:06d}-{job.request.method}-{job.digest[:10]}.{suffix}"


def read(row: Sequence[Any]) -> Entry | Damaged:
    """Return a row, which has the `COLUMNS`, as a job."""
    try:
        for value in row:
            if isinstance(value, str):
                text.check(value, "a cell", BadLedger)
        if not _NAME.fullmatch(row[4]):  # it is written to: a name in the folder, and nothing that leads out of it
            raise BadLedger(f"{row[4]!r} is no name of a picture")
        stated = documents.json_value(row[2], "its request cannot be read", error=BadLedger)
        # a row of a version that could not say whether choices are made holds them made, or as text
        request = RenderRequest.model_validate({"choices": "text", **stated} if isinstance(stated, dict) else stated)
        return Entry(row[0], row[1], request, row[3], row[4], State(row[5]), *row[6:])
    except ValidationError as error:
        why = f"its request cannot be read: {error.error_count()} of its fields are wrong"
    except ZooError as error:
        why = str(error)
    return Damaged(row[0], text.escaped(row[1]), text.escaped(row[4]), State(row[5]), why)
