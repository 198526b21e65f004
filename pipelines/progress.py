"""What a caller sees of a rendering under way, and how it stops one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

from pipelines.errors import Cancelled, OutOfTime

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from composer.outline import Outline


class Cancel:
    """A switch that any thread may throw, or that time throws; the rendering stops before its next part of a model.

    Looked at before each text that is read, each UNet call and each block of one, each decoding and each tile of one.
    """

    def __init__(self, seconds: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Give what is rendered so many seconds from now, by this clock; None: all the time it takes."""
        self._event = Event()
        self._seconds = seconds
        self._clock = clock
        self._end = None if seconds is None else clock() + seconds

    def cancel(self) -> None:
        """Throw the switch."""
        self._event.set()

    def check(self) -> None:
        """Raise `Cancelled` if the switch was thrown, `OutOfTime` if the time is over."""
        if self._event.is_set():
            raise Cancelled("the rendering was cancelled")
        if self._end is not None and self._clock() > self._end:
            raise OutOfTime(f"stopped after {self._seconds:,g} seconds, which is all that one job is given here")


@dataclass(frozen=True, eq=False)
class PictureProgress:
    """One picture after a step. The latents are a copy: nothing done to them reaches the rendering.

    What is called here costs what it says, and nothing unless it is called.
    """

    position: int  # in the list of requests
    index: int  # of the step just done
    count: int
    latents: Tensor  # [1, channels, h, w]
    pixels: int  # of the whole picture
    preview: Callable[[], Image]  # a small, rough picture: next to nothing
    decoded: Callable[[], Image]  # the whole picture as it stands: a run of the decoder
    findings: Callable[[], Mapping[str, Image]]  # what the method has found so far, grey, of any size: as a preview
    outline: Callable[[], Outline]  # what acts in which step, now that the prompt was read: some questions to the plan


@dataclass(frozen=True, eq=False)
class StepReport:
    """All pictures that took part in a step of the loop; those with fewer steps leave earlier."""

    index: int
    count: int  # of the longest request
    pictures: tuple[PictureProgress, ...]


OnStep = Callable[[StepReport], None]

#: Told of offline work: what is being done, how much of it is done, of how much.
Watch = Callable[[str, int, int], None]


def unwatched(_what: str, _done: int, _count: int) -> None:
    """Watch without looking."""
