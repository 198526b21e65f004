"""Rendered pictures, kept: an evaluation that was stopped goes on where it was, and judging again renders nothing.

A picture is filed under everything that decides it: the request with every default replaced, its LoRAs' digests
included, and the model's own files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from composer.request import RenderRequest
from lora_zoo.foreign import files, pictures
from pipelines import images
from pipelines.batching import TOGETHER
from pipelines.engine import Engine
from pipelines.images import Rendering
from pipelines.jobs.identity import digest

OnPictures = Callable[[int], None]


class Gallery:
    """Renders what is not there yet."""

    def __init__(self, folder: Path, engine: Engine | None = None) -> None:
        self._folder = folder
        self._engine = engine or Engine()

    def render(self, requests: Sequence[RenderRequest], done: OnPictures) -> list[Rendering]:
        """Return a rendering per request, telling `done` how many more there are.

        Requests of one call share UNet calls and so their seconds: ask for different methods in different calls.
        """
        paths = [self.path(request) for request in requests]
        wanted = {path: request for path, request in zip(paths, requests, strict=True) if not path.exists()}
        done(len(requests) - len(wanted))
        missing = list(wanted.items())
        for start in range(0, len(missing), TOGETHER):
            some = missing[start : start + TOGETHER]
            for (path, _), rendering in zip(some, self._engine.render_many([r for _, r in some]), strict=True):
                path.parent.mkdir(parents=True, exist_ok=True)
                images.save(rendering, path)
            done(len(some))
        return [_read(path) for path in paths]

    def path(self, request: RenderRequest) -> Path:
        """Return where the picture of a request is, or will be."""
        return self._folder / f"{digest(self._engine.resolve(request))[:32]}.png"

    def settings(self) -> str:
        """Say what a request that leaves them open is rendered with."""
        known = self._engine.resolve(RenderRequest()).request
        return f"{known.scheduler}, {known.num_inference_steps} steps, guidance {known.guidance_scale}"


def _read(path: Path) -> Rendering:
    record = images.read_record(path)
    return Rendering(pictures.decoded(path, files.shown(path)).convert("RGB"), record)
