"""Previews that lie beside LoRAs, as a page may see them: decoded and written anew, never the file itself.

What is called x.png in a folder of downloads may be a link to any file, or hold more than a picture.
"""

from __future__ import annotations

import io
import os
from functools import lru_cache
from pathlib import Path

from lora_zoo.errors import BadFile
from lora_zoo.foreign import files, pictures
from pipelines import decoding

_MOST_BYTES = 32 << 20
_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP")
_SIDE = 512  # pixels of the longer one, at most
_EXACT = 256  # pixels up to which nothing is lost; larger ones are JPEGs
_KEPT = 512  # pictures that need not be decoded again


def shown(path: Path) -> tuple[bytes, str]:
    """Return a preview and its media type.

    Raises:
        BadFile: It is no picture, is too large, or is a link out of its folder.
    """
    files.check_place(path, path.parent)
    try:
        found = os.stat(path)
    except OSError as error:
        raise BadFile(f"{path.name}: cannot be opened ({error.strerror})") from error
    return _shown(path, found.st_mtime_ns, found.st_size)


@lru_cache(_KEPT)
def _shown(path: Path, _changed: int, _size: int) -> tuple[bytes, str]:
    data = files.read(path, _MOST_BYTES, within=path.parent)
    with decoding.one_at_a_time(), pictures.opened(data, path.name, _FORMATS) as image:
        image.draft("RGB", (_SIDE, _SIDE))  # of a JPEG, no more is decoded than is needed
        small = image.convert("RGB")
        small.thumbnail((_SIDE, _SIDE))
        exact = max(small.size) <= _EXACT
        buffer = io.BytesIO()
        small.save(buffer, "PNG" if exact else "JPEG", quality=88)
    return buffer.getvalue(), "image/png" if exact else "image/jpeg"
