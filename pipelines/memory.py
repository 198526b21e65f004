"""The C library's allocator on processors: told to keep what is freed, for the next step asks for the same again.

By default glibc gives the memory of large tensors back to the system soon after they are freed, and the system hands
out that of the next page by page. In a step of a UNet those are thousands of pages, each cleared and mapped anew:
measured on `tiny` with 20 rows per call, a fifth of the time.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform

log = logging.getLogger(__name__)

_TRIM, _TOP_PAD, _MMAP = -1, -2, -3  # mallopt's parameters, from glibc's malloc.h
_LARGEST = 32 << 20  # bytes of the largest tensor that is kept; glibc allows no more
_KEPT = 512 << 20  # bytes that are kept at most
_AHEAD = 64 << 20  # bytes asked for at a time


def keep_freed() -> bool:
    """Have this process keep freed memory. Return False where the user has set the allocator, or there is another."""
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    tune = ctypes.CDLL(None).mallopt
    done = all([tune(_MMAP, _LARGEST), tune(_TRIM, _KEPT), tune(_TOP_PAD, _AHEAD)])
    log.debug("freed memory is kept" if done else "this allocator takes no advice")
    return done
