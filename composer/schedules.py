"""Integers over steps: whose turn it is. No tensors, no state."""

from __future__ import annotations


def round_robin(index: int, interval: int, count: int, legacy_offset: bool = False) -> int:
    """Return which of `count` takes step `index` when each has `interval` steps in turn.

    With `legacy_offset` the change comes one step later, as in a callback that fires after a step: the first one then
    has interval + 1 steps in its first turn.
    """
    if legacy_offset:
        index = max(index - 1, 0)
    return index // interval % count
