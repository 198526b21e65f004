"""What an evaluation leaves behind: one row per picture, a summary, sheets. Files appear whole or not at all."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import TypeAdapter, ValidationError

from eval.errors import BadRun, NoResults
from lora_zoo.errors import ZooError
from lora_zoo.foreign import documents, files
from lora_zoo.foreign.documents import Bounds
from lora_zoo.storage import atomic
from pipelines import sheet

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from PIL.Image import Image

_T = TypeVar("_T")
_MOST = 256 << 20  # bytes of a file that is read back
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_COLOURS = 256  # of a sheet: enough for these pictures, and a third of the bytes


def write_rows(rows: Iterable[DataclassInstance], path: Path) -> None:
    """Write rows as JSON lines."""
    text = "".join(json.dumps(dataclasses.asdict(row), ensure_ascii=False) + "\n" for row in rows)
    _write(text.encode(), path)


def write_summary(summary: DataclassInstance, path: Path) -> None:
    """Write a summary as one JSON document; a figure that is not a number is a mistake here, not in the reader."""
    text = json.dumps(dataclasses.asdict(summary), indent=1, ensure_ascii=False, allow_nan=False)
    _write(f"{text}\n".encode(), path)


def read_summary(kind: type[_T], path: Path) -> _T:
    """Read a summary back as what it was written from."""
    if not path.exists():
        raise NoResults(f"there is no {path}; `python -m eval {path.stem}` writes it")
    return read(kind, path, f"`python -m eval {path.stem}` writes it anew", NoResults)


def read(kind: type[_T], path: Path, hint: str, error: type[ZooError] = BadRun) -> _T:
    """Read a JSON file that an evaluation wrote, here or elsewhere.

    Args:
        kind: What it was written from.
        path: The file.
        hint: What to do about a file that cannot be used; the end of the message.
        error: The type of error to raise.

    Raises:
        ZooError: Of the type asked for: it cannot be read, is damaged, or is of another version of Medley.
    """
    where = files.shown(path)
    content = documents.json_value(files.read(path, _MOST, error=error), where, Bounds(length=_MOST), error=error)
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as reason:
        first = reason.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise error(f"{where}: not as this version writes it ({place}: {first['msg']}); {hint}") from reason


def read_document(path: Path, opening: str) -> str:
    """Return the text of a document whose parts are to be renewed, or how one begins.

    Raises:
        NoResults: It is no text, or cannot be read.
    """
    return files.read_text(path, _MOST, error=NoResults) if path.exists() else opening


def write_sheet(page: Image, path: Path) -> None:
    """Write a sheet with a palette of its own, to keep it small."""
    _write(sheet.png(page.quantize(_COLOURS)), path)


def write_csv(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """Write rows as CSV, their keys as its header; a spreadsheet that opens it computes nothing.

    Spreadsheets take a cell that begins in a certain way for a formula, which can send what stands beside it anywhere.
    Such a text is written behind an apostrophe, as it would be typed there. Numbers are written as they are.
    """
    buffer = io.StringIO()
    if rows:
        plain = csv.writer(buffer, lineterminator="\n")
        quoted = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        for cells in (list(rows[0]), *([row[key] for key in rows[0]] for row in rows)):
            texts = [_as_text(cell) for cell in cells]
            ends = any("\r" in text for text in texts if isinstance(text, str))  # which readers take for a line's end
            (quoted if ends else plain).writerow(texts)
    _write(buffer.getvalue().encode(), path)


def _as_text(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def write_text(text: str, path: Path) -> None:
    _write(text.encode(), path)


def copy(source: Path, folder: Path) -> None:
    _write(source.read_bytes(), folder / source.name)


def _write(data: bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(data, path)
