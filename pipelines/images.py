"""Pictures and how they were made: written whole or not at all, with our own record and in words that other tools read;
read from our own pictures and from those of other tools.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, PngImagePlugin
from pydantic import ValidationError

from composer.errors import UnknownChoice
from composer.record import RenderRecord
from composer.request import RenderRequest
from composer.sharing import shared
from lora_zoo.foreign import documents, files, pictures
from lora_zoo.storage import atomic
from pipelines.errors import BadMetadata, NoRecord
from pipelines.metadata import a1111_text, carriers, readers
from pipelines.metadata.carriers import FORMATS, OWN, PARAMETERS, Format
from pipelines.metadata.found import Found
from pipelines.metadata.hashes import FileHashes

CHUNK = OWN
_PILLOW = tuple(one.pillow for one in FORMATS)
_ROOM = 4096  # bytes of a record beyond what its request and its notices take


@dataclass(frozen=True, eq=False)
class Rendering:
    """What the engine returns: a picture, how it came to be, the hashes others know its files by, and findings.

    Findings are what a method can show of what it found on the way: masks and maps, by name.
    """

    image: Image.Image
    record: RenderRecord
    hashes: FileHashes = field(default_factory=FileHashes)
    findings: Mapping[str, Image.Image] = field(default_factory=dict[str, Image.Image])  # grey, of any size


def format_named(name: str) -> Format:
    """Return a format by its name; an unknown one is an error that tells the nearest."""
    for one in FORMATS:
        if name.lower() in (one.name, *(suffix[1:] for suffix in one.suffixes)):
            return one
    raise UnknownChoice("format", name, [one.name for one in FORMATS])


def encode(rendering: Rendering, chosen: Format = FORMATS[0]) -> bytes:
    """Return the picture as a file, with its record, which names no path of this machine.

    Only PNG keeps the pixels that the record's digest is of.
    """
    texts = {
        OWN: shared(rendering.record).model_dump_json(),
        PARAMETERS: a1111_text.write(rendering.record, rendering.hashes),
    }
    return _file(rendering.image, texts, chosen)


def converted(path: Path, chosen: Format) -> bytes:
    """Return a picture of ours as a file of another format, with the same record."""
    with pictures.opened(path, str(path), _PILLOW, error=NoRecord) as image:
        texts = carriers.texts_of(image)
        if OWN in texts:  # older ones name paths
            texts = {**texts, OWN: shared(_record(texts[OWN], path)).model_dump_json()}
        return _file(image, texts, chosen)


def _file(image: Image.Image, texts: Mapping[str, str], chosen: Format) -> bytes:
    buffer = io.BytesIO()
    if chosen.name == "png":
        image.save(buffer, format="PNG", pnginfo=_chunks(texts))
    else:
        block = carriers.exif_of(texts, chosen)
        image.convert("RGB").save(buffer, format=chosen.pillow, exif=block, **chosen.settings)
    return buffer.getvalue()


def check_room(request: RenderRequest, chosen: Format) -> None:
    """Refuse, before any work, a resolved request whose record will not fit into the format."""
    room = " " * (_ROOM + 2 * len(request.prompt + request.negative_prompt))
    texts = {OWN: request.model_dump_json() + room, PARAMETERS: a1111_text.write(request, FileHashes())}
    carriers.exif_of(texts, chosen)


def save(rendering: Rendering, path: Path) -> str:
    """Write the picture, in the format of its suffix, so that no reader ever sees half; return the file's sha256."""
    data = encode(rendering, format_named(path.suffix.removeprefix(".")))
    atomic.write(data, path)
    return hashlib.sha256(data).hexdigest()


def is_picture(path: Path) -> bool:
    """Tell from its first bytes whether a file is of a format that is read here."""
    with files.opened(path) as file:
        start = file.read(12)
    riff = start[:4] == b"RIFF" and start[8:] == b"WEBP"
    return riff or start[:8] == b"\x89PNG\r\n\x1a\n" or start[:3] == b"\xff\xd8\xff" or start[4:8] == b"ftyp"


def read(path: Path) -> RenderRecord | Found:
    """Return our own record, or what another tool says of its picture; neither is an error."""
    texts = _texts(path)
    if OWN in texts:
        return _record(texts[OWN], path)
    found = readers.read(texts)
    if found is None:
        raise NoRecord(f"{path} holds no record of ours, nor of A1111, ComfyUI, InvokeAI or Fooocus")
    return found


def read_record(path: Path) -> RenderRecord:
    """Return the record inside a picture of ours."""
    text = _texts(path).get(OWN)
    if text is None:
        raise NoRecord(f"{path} holds no record of ours")
    return _record(text, path)


def pixels_sha256(image: Image.Image) -> str:
    """Return the sha256 of a picture's RGB bytes, the same whatever file it is kept in."""
    return hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()


def _chunks(texts: Mapping[str, str]) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_itxt(OWN, texts[OWN])
    info.add_text(PARAMETERS, texts[PARAMETERS])  # Latin-1 where that suffices, as A1111 does
    return info


def _texts(path: Path) -> dict[str, str]:
    """Return the texts in a picture file; its pixels are not decoded."""
    if not path.exists():
        raise NoRecord(f"there is no file {path}")
    try:
        with pictures.opened(path, f"the picture {path}", _PILLOW, error=NoRecord) as image:
            return carriers.texts_of(image)
    except BadMetadata as error:
        raise BadMetadata(f"{path}: {error}") from error


def _record(text: str, path: Path) -> RenderRecord:
    try:
        return RenderRecord.model_validate(documents.json_value(text, f"the record in {path}", error=NoRecord))
    except ValidationError as error:
        raise NoRecord(f"the record in {path} cannot be read: {error.error_count()} of its fields are wrong") from error
