"""What can be seen of the job under way: how far it is, how long it will take, what its pictures look like so far."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from PIL import Image
from pydantic import JsonValue

from composer.outline import Outline
from pipelines.progress import PictureProgress, StepReport

_SHOWN = 9  # pictures of a go that are shown while it runs
_CHEAP = 4 * 64 * 64  # pixels that the decoder makes in a few milliseconds: up to these, the preview is its picture
_SIDE = 256  # pixels of a preview's longer side, at most
_PAUSE = 0.08  # seconds between previews


@dataclass(frozen=True)
class Live:
    """One moment of the job under way. Never changed: a new moment is a new object."""

    job: str
    pictures: int  # in all
    done: int = 0  # pictures finished
    together: int = 1  # pictures under way now
    step: int = 0
    steps: int = 0
    seconds_left: float | None = None  # None: too early to say
    previews: tuple[str, ...] = ()  # as data: addresses
    findings: tuple[tuple[str, str], ...] = ()  # what the method found for the first of them: name, data: address
    frame: int = 0  # counts the previews
    outlines: Mapping[int, Outline] = field(default_factory=dict[int, Outline])  # of those that their prompts decide

    def reached(self) -> str:
        """Return how far the job has come, in words."""
        under_way = f"; those under way were at step {self.step} of {self.steps}" if self.steps else ""
        return f"{self.done} of {self.pictures} pictures are finished and kept{under_way}"

    def told(self) -> dict[str, JsonValue]:
        """Return the moment as a page shows it."""
        return {
            "pictures": self.pictures,
            "done": self.done,
            "together": self.together,
            "step": self.step,
            "steps": self.steps,
            "seconds_left": self.seconds_left,
            "previews": list(self.previews),
            "findings": [list(one) for one in self.findings],
            "known": bool(self.outlines),
            "frame": self.frame,
        }


@dataclass
class Watcher:
    """Turns the engine's reports into moments. Written by the one worker, read by anybody."""

    live: Live
    _started: float = field(default_factory=time.perf_counter)
    _shown: float = 0.0
    _steps: int = 0  # taken of all goes

    def go(self, pictures: int) -> None:
        """Begin a go of this many pictures."""
        self.live = replace(self.live, together=pictures, step=0, steps=0, previews=(), findings=(), outlines={})

    def on_step(self, report: StepReport) -> None:
        """Take a report; previews are made if the last ones are old enough, or these are the last."""
        self._steps += 1
        now = time.perf_counter()
        pace = (now - self._started) / self._steps
        here = self.live
        goes_left = max(0, here.pictures - here.done - here.together) / here.together
        left = pace * (report.count - report.index - 1 + report.count * goes_left)
        moment = replace(here, step=report.index + 1, steps=report.count, seconds_left=left)
        if begun := {one.position: one.outline() for one in report.pictures if one.index == 0}:
            moment = replace(moment, outlines={place: told for place, told in begun.items() if told.known})
        if now - self._shown >= _PAUSE or report.index + 1 == report.count:
            self._shown = now
            seen = previews(report.pictures), findings(report.pictures[0])
            moment = replace(moment, previews=seen[0], findings=seen[1], frame=moment.frame + 1)
        self.live = moment

    def finished(self, pictures: int) -> None:
        self.live = replace(self.live, done=self.live.done + pictures)


def previews(pictures: Sequence[PictureProgress]) -> tuple[str, ...]:
    """Return the first pictures as they look so far: decoded if they are small, else sketched."""
    shown = pictures[:_SHOWN]
    small = sum(one.pixels for one in shown) <= _CHEAP
    return tuple(as_data(one.decoded() if small else one.preview()) for one in shown)


def findings(picture: PictureProgress) -> tuple[tuple[str, str], ...]:
    """Return what a picture's method has found so far, to be shown."""
    return tuple((name, as_data(image)) for name, image in picture.findings().items())


def as_data(image: Image.Image, side: int = _SIDE) -> str:
    """Return a picture as an address that holds it."""
    shrunk = image.convert("RGB")
    shrunk.thumbnail((side, side))
    buffer = io.BytesIO()
    shrunk.save(buffer, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
