"""Waiting for what another thread or process does; only the limit depends on the machine."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(true: Callable[[], bool], seconds: float = 100.0) -> None:
    """Return once something is true; that it does not become so in time is the test's failure."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)
