"""One picture of a stranger's is decoded at a time: a file of some kilobytes can be one of hundreds of megabytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from pipelines import memory

_TURN = Lock()


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Wait for one's turn; what was decoded should be let go of, or made small, before it ends."""
    with _TURN:
        try:
            yield
        finally:
            memory.hand_back()
