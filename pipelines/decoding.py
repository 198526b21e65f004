"""One picture of a stranger's is decoded at a time: a file of some kilobytes can be one of hundreds of megabytes."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

_TURN = Lock()


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Wait for one's turn; what was decoded should be let go of, or made small, before it ends."""
    with _TURN:
        try:
            yield
        finally:
            hand_back()


def hand_back() -> None:
    """Return free memory to the system, where C's allocator keeps it otherwise and can be told not to."""
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl does not
