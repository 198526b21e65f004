"""What the command line says: results on stdout, as text or as one JSON document; everything else on stderr."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pydantic import JsonValue

    from lora_zoo.index.scan import OnFile
    from pipelines.progress import OnStep, Watch

_PIPE_WIDTH = 200  # columns of a table that goes to a file or a pipe, where a terminal's width means nothing

_SHOWN = 200
_LONG = re.compile(r"\S{1000,}")  # what nobody reads: one word that fills screens

Row: TypeAlias = "Mapping[str, JsonValue]"


def quiet_libraries() -> None:
    """Keep what diffusers and transformers say on loading a model to errors, unless the user has set it otherwise."""
    for name, value in (("DIFFUSERS_VERBOSITY", "error"), ("TRANSFORMERS_VERBOSITY", "error")):
        os.environ.setdefault(name, value)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def document(content: Row) -> None:
    """Print one JSON document on stdout; a number that is not finite, which JSON has no sign for, is null."""
    plain = getattr(sys.stdout, "encoding", None) not in ("utf-8", "UTF-8")  # whose escapes are not always JSON's
    print(json.dumps(_finite(dict(content)), indent=2, ensure_ascii=plain, allow_nan=False))


def _finite(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return {key: _finite(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(held) for held in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def line(text: str) -> None:
    """Print one line of the result on stdout."""
    print(text)


def notice(text: str) -> None:
    """Tell the user something that is not the result."""
    with suppress(OSError, ValueError):  # nobody reads it any more
        print(text, file=sys.stderr, flush=True)


def error(text: str) -> None:
    """Tell why a command ends, in text that a stranger's file or a slip of the hand makes neither wild nor endless."""
    for one in f"error: {text}".split("\n"):
        notice(printable(_LONG.sub(lambda found: f"{found[0][:_SHOWN]}… ({len(found[0]):,} characters)", one)))


def table(rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Print chosen columns of rows on stdout, for people."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH)
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column)
    for row in rows:
        grid.add_row(*(Text(plain(row[column])) for column in columns))
    console.print(grid)


def pairs(row: Row) -> None:
    """Print a row as lines of key and value on stdout, for people."""
    width = max(map(len, row), default=0)
    for key, value in row.items():
        line(f"{key:<{width}}  {plain(value)}")


def plain(value: JsonValue) -> str:
    """Return a JSON value as a person would write it."""
    if value is None or value in ("", [], {}):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(plain(one) for one in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}={plain(one)}" for key, one in value.items())
    return f"{value:g}" if isinstance(value, float) else printable(str(value))


def printable(text: str) -> str:
    """Return a text with its control characters escaped: a stranger's file must not steer the terminal."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


@contextmanager
def progress(pictures: int) -> Iterator[OnStep]:
    """Show a bar on stderr, if somebody is looking; what is yielded feeds it the engine's step reports."""
    what = "1 picture" if pictures == 1 else f"{pictures} pictures"
    with _bar() as update:
        yield lambda report: update(what, report.index + 1, report.count)


@contextmanager
def working() -> Iterator[Watch]:
    """Show a bar on stderr, if somebody is looking; what is yielded feeds it what is being done."""
    with _bar() as update:
        yield update


@contextmanager
def files_progress(what: str) -> Iterator[OnFile]:
    """Show a bar of files on stderr, if somebody is looking; what is yielded takes how many are done of how many."""
    with _bar() as update:
        yield partial(update, what)


@contextmanager
def _bar() -> Iterator[Watch]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("loading", total=None)

        def update(what: str, done: int, count: int) -> None:
            bars.update(task, description=what, total=count, completed=done)

        yield update
