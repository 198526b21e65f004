"""Tells those who watch a job, on the event loop, that there is something new of it, from whatever thread it comes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from threading import Lock
from typing import TypeVar

from starlette.concurrency import run_in_threadpool

T = TypeVar("T")
_PAUSE = 0.04  # seconds between two looks of one watcher, at least
_LONGEST = 5.0  # seconds without news after which it looks all the same: places in the queue change without any

Listener = tuple[asyncio.AbstractEventLoop, asyncio.Event]


class News:
    """Who watches which job."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._listeners: dict[str, set[Listener]] = defaultdict(set)

    def tell(self, job: str | None = None) -> None:
        """Wake those who watch a job; None: all who watch any."""
        with self._lock:
            jobs = list(self._listeners) if job is None else [job]
            woken = [one for name in jobs for one in self._listeners.get(name, ())]
        for loop, event in woken:
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:
                continue  # a loop that has ended meanwhile

    async def moments(self, job: str, look: Callable[[], T]) -> AsyncGenerator[T, None]:
        """Yield what `look` returns, which is asked in a thread: at once, and whenever there is news of a job."""
        listener = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._listeners[job].add(listener)
        try:
            while True:
                listener[1].clear()
                yield await run_in_threadpool(look)
                await asyncio.sleep(_PAUSE)
                await _come(listener[1])
        finally:
            self._forget(job, listener)

    def _forget(self, job: str, listener: Listener) -> None:
        with self._lock:
            self._listeners[job].discard(listener)
            if not self._listeners[job]:
                del self._listeners[job]


#: One for the process: no two jobs have one id, so whoever changes one need not know who watches.
BOARD = News()


async def _come(event: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(event.wait(), _LONGEST)
    except TimeoutError:
        return
