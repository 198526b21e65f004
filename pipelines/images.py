"""Pictures and their records: a PNG holds the record as JSON in a chunk of its own, written whole or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, PngImagePlugin, UnidentifiedImageError
from pydantic import ValidationError

from composer.record import RenderRecord
from pipelines.errors import NoRecord

CHUNK = "medley"


@dataclass(frozen=True, eq=False)
class Rendering:
    """What the engine returns: a picture, and how it came to be."""

    image: Image.Image
    record: RenderRecord


def encode(rendering: Rendering) -> bytes:
    """Return the picture as PNG with its record."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt(CHUNK, rendering.record.model_dump_json())
    buffer = io.BytesIO()
    rendering.image.save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def save(rendering: Rendering, path: Path) -> str:
    """Write the picture so that no reader ever sees half of it; return the file's sha256."""
    data = encode(rendering)
    write_atomically(data, path)
    return hashlib.sha256(data).hexdigest()


def write_atomically(data: bytes, path: Path) -> None:
    """Write a file beside its place, force it to the disk, then put it in place in one act."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # a temporary file is private; a picture is not
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def read_record(path: Path) -> RenderRecord:
    """Return the record inside a picture of ours."""
    try:
        with Image.open(path) as image:
            text = image.info.get(CHUNK)
    except FileNotFoundError as error:
        raise NoRecord(f"there is no file {path}") from error
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise NoRecord(f"{path} is not a picture that can be read: {error}") from error
    if not isinstance(text, str):
        raise NoRecord(f"{path} holds no record of ours (no PNG text chunk '{CHUNK}')")
    try:
        return RenderRecord.model_validate_json(text)
    except ValidationError as error:
        raise NoRecord(f"the record in {path} cannot be read: {error.error_count()} of its fields are wrong") from error


def pixels_sha256(image: Image.Image) -> str:
    """Return the sha256 of a picture's RGB bytes, the same whatever file it is kept in."""
    return hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()
