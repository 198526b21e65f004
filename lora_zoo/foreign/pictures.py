"""Open pictures that somebody else may have made: of listed formats, their pixels bounded before any is decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lora_zoo.errors import BadFile, ZooError
from lora_zoo.foreign import files

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 64_000_000
#: Formats, by Pillow's names, in which pictures come. Others of Pillow's run programs or have many dialects.
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "TIFF")


@contextmanager
def opened(
    source: Path | bytes,
    where: str,
    formats: Sequence[str] = FORMATS,
    within: Path | None = None,
    error: type[ZooError] = BadFile,
) -> Iterator[Image]:
    """Give a picture whose pixels are not decoded yet; it is closed afterwards.

    Args:
        source: A regular file, or a file's content.
        where: What to call it in messages.
        formats: Pillow's names of the formats that it may be of.
        within: The folder that the file may not lead out of.
        error: The type of error to raise.

    Raises:
        ZooError: Of the type asked for: no such file, no picture of these formats, a damaged one, or one of more than
            `MAX_PIXELS`; also for what goes wrong while it is decoded in the context.
    """
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    with _file(source, where, within, error) as file:
        try:
            with Pillow.open(file, formats=list(formats)) as found:
                if found.width * found.height > MAX_PIXELS:
                    raise error(f"{where} has more than {MAX_PIXELS:,} pixels")
                yield found
        except ZooError:
            raise
        except UnidentifiedImageError as reason:
            raise error(f"cannot read {where}: not a picture of a kind that is read ({', '.join(formats)})") from reason
        except Exception as reason:  # decoders raise whatever they are made of
            raise error(f"cannot read {where}: {reason}") from reason


def _file(source: Path | bytes, where: str, within: Path | None, error: type[ZooError]) -> BinaryIO:
    if isinstance(source, bytes):
        return BytesIO(source)
    try:
        return files.opened(source, within, error)
    except ZooError as reason:
        raise error(f"cannot read {where}: {reason}") from reason


def decoded(
    source: Path | bytes,
    where: str,
    formats: Sequence[str] = FORMATS,
    within: Path | None = None,
    error: type[ZooError] = BadFile,
) -> Image:
    """Return a picture with its pixels; see `opened`."""
    with opened(source, where, formats, within, error) as found:
        found.load()
        return found
