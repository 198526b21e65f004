"""The C library's allocator on processors: told to keep what is freed, for the next step asks for the same again.

By default glibc gives the memory of large tensors back to the system soon after they are freed, and the system hands
out that of the next page by page. In a step of a UNet those are thousands of pages, each cleared and mapped anew:
measured on `tiny` with 20 rows per call, a fifth of the time.

What is kept lies between what is in use, in pieces of all sizes, and a piece that fits no request of later is of no use
to anybody: over hundreds of pictures of different LoRAs such pieces grow to more than a gigabyte. So after a rendering
the allocator is asked to give back its free pages, once it holds more of them than are worth keeping.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

_TRIM, _TOP_PAD, _MMAP = -1, -2, -3  # mallopt's parameters, from glibc's malloc.h
_LARGEST = 32 << 20  # bytes of the largest tensor that is kept; glibc allows no more
_KEPT = 512 << 20  # bytes that are kept at most
_AHEAD = 64 << 20  # bytes asked for at a time
SLACK = 256 << 20  # free bytes that are worth keeping between renderings


@dataclass
class _State:
    tuned: bool = False  # whether the allocator was told to keep memory
    least: int = 0  # bytes of this process that are not in the allocator's use, when free pages were last given back


_state = _State()


def keep_freed() -> bool:
    """Have this process keep freed memory. Return False where the user has set the allocator, or there is another."""
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    tune = ctypes.CDLL(None).mallopt
    done = all([tune(_MMAP, _LARGEST), tune(_TRIM, _KEPT), tune(_TOP_PAD, _AHEAD)])
    log.debug("freed memory is kept" if done else "this allocator takes no advice")
    _state.tuned = done
    return done


def give_back() -> bool:
    """Return free pages to the system if this process holds more than are worth keeping; return whether it did.

    Only where `keep_freed` had the allocator keep them.
    """
    if not _state.tuned or (free := _free()) is None or free <= _state.least + SLACK:
        return False
    hand_back()
    _state.least = _free() or 0
    log.debug("%d MB of free memory given back", (free - _state.least) >> 20)
    return True


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


class _Mallinfo(ctypes.Structure):
    """What glibc's `mallinfo2` returns."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    )


def _free() -> int | None:
    """Return the bytes of memory that this process holds and its allocator has no use for; None: not known.

    The allocator counts pages that it has given back among its free ones, so what the system says is taken.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):  # glibc before 2.33
        return None
    library.mallinfo2.restype = _Mallinfo
    try:
        lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    held = next((int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:")), None)
    found: Any = library.mallinfo2()
    return None if held is None else held - found.uordblks - found.hblkhd
