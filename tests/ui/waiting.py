"""Waiting for what another thread or process does; only the limit depends on the machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def until(true: Callable[[], bool], seconds: float = 100.0) -> None:
    """Return once something is true; that it does not become so in time is the test's failure."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def finished(coroutine: Coroutine[object, object, Result]) -> Result:
    """Return what a coroutine returns, run by a thread of its own.

    `asyncio.run` in the test's own thread would fail wherever an earlier test opened a browser: playwright leaves its
    loop running there.
    """
    with ThreadPoolExecutor(1) as aside:
        return aside.submit(asyncio.run, coroutine).result()  # noqa: TID251  the one place
