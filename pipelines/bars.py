"""A progress bar with rate and time left; where nobody is looking at a terminal, a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

#: Tells how many more are done.
Advance = Callable[[int], None]

_EVERY = 30.0  # seconds between lines


class _Rate(ProgressColumn):
    """How many are done in a minute, of late."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{60 * speed:.0f} a minute" if speed else "")


@contextmanager
def bar(what: str, total: int) -> Iterator[Advance]:
    """Show on stderr how much of `total` is done; what is yielded is told how many more are."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(console, what, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, _Rate(), *times, console=console) as shown:
        task = shown.add_task(what, total=total)
        yield lambda more: shown.advance(task, more)


class _Lines:
    """The same, as lines of a log."""

    def __init__(self, console: Console, what: str, total: int) -> None:
        self._console, self._what, self._total = console, what, total
        self._done, self._started, self._told = 0, time.monotonic(), time.monotonic()

    def __call__(self, more: int) -> None:
        self._done += more
        now = time.monotonic()
        if self._done and (now - self._told > _EVERY or self._done == self._total):
            each = (now - self._started) / self._done
            rate = f", {60 / each:.0f} a minute" if each else ""
            left = each * (self._total - self._done)
            self._told = now
            self._console.print(f"{self._what} {self._done}/{self._total}{rate}, {left:.0f} s left", highlight=False)
