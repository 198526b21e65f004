"""Hands memory back to the system after something large is over; C's allocator keeps it otherwise."""

from __future__ import annotations

import ctypes
import gc
import sys
from functools import cache
from typing import Any


def hand_back() -> None:
    """Return free memory to the system, where the C library can."""
    gc.collect(1)
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl does not
