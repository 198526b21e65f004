"""Pictures that requests begin with, kept once and named by an id; so pages and the history pass on no pixels.

A page sends a picture once. What it then asks for, and what is kept of jobs and pictures, names it by `held:` and its
digest. The engine is given it inline, as every client may give it; so the files of pictures need no server.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from composer.request import RenderRequest, Start
from lora_zoo.errors import BadFile
from lora_zoo.foreign import files, pictures
from lora_zoo.storage import atomic
from pipelines import canvas, decoding
from ui import room
from ui.errors import NotThere, TooMuch

if TYPE_CHECKING:
    from PIL.Image import Image

FOLDER = "held"
NAMED = "held:"
INLINE = "data:image/png;base64,"
_WHAT = "picture to begin with"
_ID = re.compile(r"held:([0-9a-f]{64})\Z")
_R = TypeVar("_R", bound=RenderRequest)


class Held:
    """The pictures of a folder, each named by the digest of its file."""

    def __init__(self, folder: Path, most: int) -> None:
        """Keep pictures of up to `most` bytes."""
        self._folder, self._most = folder, most
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, data: bytes) -> str:
        """Keep what somebody sent, if it is a picture: its pixels alone, as a PNG; return its name."""
        if len(data) > self._most:
            raise TooMuch(f"a picture has at most {self._most >> 20} MB here; send a smaller one")
        inline = INLINE + base64.b64encode(data).decode("ascii")
        with decoding.one_at_a_time():
            return self.hold(canvas.opened(inline, _WHAT).convert("RGB"))

    def hold(self, picture: Image) -> str:
        """Keep a picture, and return its name."""
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", compress_level=1)
        return self._keep(buffer.getvalue())

    def file(self, digest: str) -> Path:
        """Return where a picture lies; one that is not there is an error."""
        path = self._folder / f"{digest}.png"
        if _ID.match(f"{NAMED}{digest}") is None or not path.is_file():
            raise NotThere("the picture to begin with is not here any more; choose it again")
        os.utime(path)  # it is used, so it is not old
        return path

    def size(self, start: Start) -> tuple[int, int]:
        """Return width and height of what a request begins with."""
        if not start.image.startswith(NAMED):
            return canvas.size_of(start)
        with pictures.opened(self.file(start.image.removeprefix(NAMED)), _WHAT, ("PNG",)) as found:
            return found.size

    def named(self, request: _R) -> _R:
        """Return a request, or a record, that names its picture and its mask; these are kept."""
        return _changed(request, lambda text: self._keep(_bytes(text)) if text.startswith(INLINE) else text)

    def inline(self, request: _R) -> _R:
        """Return a request that holds its picture and its mask, as the engine takes it."""
        return _changed(request, lambda text: self._text(text) if text.startswith(NAMED) else text)

    def clear(self, named: Callable[[], Collection[str]]) -> None:
        """Clear away pictures that are old and that nothing has named; what is, is asked for last."""
        room.clear_unnamed(self._folder, named())

    def _text(self, name: str) -> str:
        path = self.file(name.removeprefix(NAMED))
        return INLINE + base64.b64encode(files.read(path, room.BOUNDS.held)).decode("ascii")

    def _keep(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        path = self._folder / f"{digest}.png"
        if path.is_file():
            os.utime(path)
        elif room.held(self._folder) + len(data) > room.BOUNDS.held:
            raise TooMuch("this server has no room for more pictures to begin with; ask whoever runs it to make some")
        else:
            atomic.write(data, path)
        return f"{NAMED}{digest}"


def _changed(request: _R, change: Callable[[str], str]) -> _R:
    start = request.start
    if start is None:
        return request
    mask = None if start.mask is None else change(start.mask)
    return request.model_copy(update={"start": start.model_copy(update={"image": change(start.image), "mask": mask})})


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text.partition(",")[2], validate=True)
    except binascii.Error as error:
        raise BadFile(f"the picture to begin with, inline, is not base64: {error}") from error
