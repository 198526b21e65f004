"""A progress bar with the time left; where nobody is looking at a terminal, a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

#: Tells how many more are done.
Advance = Callable[[int], None]

_EVERY = 30.0  # seconds between lines


@contextmanager
def bar(what: str, total: int) -> Iterator[Advance]:
    """Show on stderr how much of `total` is done; what is yielded is told how many more are."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(console, what, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console) as shown:
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
            left = (now - self._started) / self._done * (self._total - self._done)
            self._told = now
            self._console.print(f"{self._what} {self._done}/{self._total}, {left:.0f} s left", highlight=False)
