"""How the rows of many passes are dealt to UNet calls. Plain integers, so that a dry run counts as the engine does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

_T = TypeVar("_T")

#: Pictures rendered in one go: enough to fill the largest call with guidance, few enough to lose little when stopped.
TOGETHER = 16


def deal(items: Sequence[_T], rows_of: Callable[[_T], int], max_rows: int) -> list[list[_T]]:
    """Split items into the fewest calls of at most `max_rows` rows, of about equal size; an item is never split."""
    total = sum(rows_of(item) for item in items)
    calls = -(-total // max_rows) or 1
    target = max(-(-total // calls), max((rows_of(item) for item in items), default=1))
    dealt: list[list[_T]] = []
    room = 0
    for item in items:
        if rows_of(item) > room:
            dealt.append([])
            room = min(target + target % 2, max_rows)
        dealt[-1].append(item)
        room -= rows_of(item)
    return dealt
