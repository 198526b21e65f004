"""Whose turn it is: integers over steps, and the order of LoRAs. No tensors, no state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING

from composer.errors import BadRequest

if TYPE_CHECKING:
    from composer.plan import Job, Step


def round_robin(index: int, interval: int, count: int, legacy_offset: bool = False) -> int:
    """Return which of `count` takes step `index` when each has `interval` steps in turn.

    With `legacy_offset` the change comes one step later, as in a callback that fires after a step: the first one then
    has interval + 1 steps in its first turn.
    """
    if legacy_offset:
        index = max(index - 1, 0)
    return index // interval % count


def in_blocks(index: int, lengths: Sequence[int]) -> int:
    """Return which one takes step `index` when they follow each other round and round, each for its length in steps."""
    place = index % sum(lengths)
    return next(which for which, end in enumerate(accumulate(lengths)) if place < end)


def updates(step: Step, until: float, refine: int) -> int:
    """Return how often latents are moved before a step: once in the first part, and more at each fifth of all steps."""
    if step.index >= until * step.count:
        return 0
    return 1 + (refine if step.index in {fifth * step.count // 5 for fifth in range(5)} else 0)


def by_frequency(job: Job) -> Job:
    """Return the job with its adapters from high to low frequency; equal ones stay as they were named."""
    return replace(job, adapters=tuple(sorted(job.adapters, key=lambda use: -(use.frequency or 0.0))))


def need_frequencies(job: Job) -> None:
    """Refuse a LoRA whose frequency nobody has measured."""
    for use in job.adapters:
        if use.frequency is None:
            raise BadRequest(
                f"the order of LoRAs is by frequency, and that of '{use.name}' was not measured; run `python app.py "
                f"zoo profile {use.name}` once, or take the order that they are named in: order=named"
            )


def refresh_steps(count: int, interval: int) -> tuple[int, ...]:
    """Return the steps in which something kept is made again: every `interval`-th.

    0 is the schedule of CMLoRA (arXiv:2502.04923): every second step in the first 3/8 and the last 1/8, every third in
    between.
    """
    if interval:
        return tuple(range(0, count, interval))
    early, late = int(0.375 * count), int(0.875 * count)
    return (*range(0, early, 2), *range(early, late, 3), *range(late, count, 2))
