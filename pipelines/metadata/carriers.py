"""Where a picture file keeps text: PNG in chunks by name; JPEG, WebP and AVIF in EXIF fields, which are given the names
of the PNG chunks here, so that readers need not know the format.

Beside A1111's text, our own record goes into PNG's chunk `medley`, elsewhere into EXIF's MakerNote, the field meant for
what a maker adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.errors import BadMetadata
from pipelines.metadata import exif

if TYPE_CHECKING:
    from PIL import Image

OWN, PARAMETERS = "medley", "parameters"
_NAMES = (OWN, PARAMETERS, "prompt", "workflow", "invokeai_metadata", "fooocus_scheme")
_NOTE = b"medley\0\0"  # the first bytes of our MakerNote, by which it is known
_MOST_JPEG = 65_533  # bytes that fit into a JPEG's segment


@dataclass(frozen=True)
class Format:
    """A kind of picture file that can be written."""

    name: str
    suffixes: tuple[str, ...]
    pillow: str
    settings: Mapping[str, int]


FORMATS = (
    Format("png", (".png",), "PNG", {}),
    Format("jpeg", (".jpg", ".jpeg"), "JPEG", {"quality": 95, "subsampling": 0}),
    Format("webp", (".webp",), "WEBP", {"quality": 92, "method": 4}),
    Format("avif", (".avif",), "AVIF", {"quality": 90}),
)


def exif_of(texts: Mapping[str, str], chosen: Format) -> bytes:
    """Return the EXIF block that holds a record and A1111's text; too much for a JPEG is an error, nothing is cut."""
    note = _NOTE + texts[OWN].encode("utf-8")
    block = exif.write({exif.MAKER_NOTE: note, exif.USER_COMMENT: exif.comment(texts[PARAMETERS])})
    if chosen.name == "jpeg" and len(block) > _MOST_JPEG:
        raise BadMetadata(
            f"the record of this picture has {len(block):,} bytes; a JPEG holds {_MOST_JPEG:,}: write PNG, WebP or AVIF"
        )
    return block


def texts_of(image: Image.Image) -> dict[str, str]:
    """Return the texts of a picture by the names they have in PNG. A chunk of PNG comes before an EXIF field."""
    found = {name: str(image.info[name]) for name in _NAMES if isinstance(image.info.get(name), str)}
    block = image.info.get("exif")
    if isinstance(block, bytes) and block:
        found = {**_from_exif(exif.read(block)), **found}
    return found


def _from_exif(fields: Mapping[int, bytes]) -> dict[str, str]:
    found: dict[str, str] = {}
    for tag, value in fields.items():
        if tag == exif.MAKER_NOTE and value.startswith(_NOTE):
            found[OWN] = value.removeprefix(_NOTE).decode("utf-8", "replace")
        elif tag == exif.USER_COMMENT:
            found[PARAMETERS] = exif.text(value)
        elif tag in (exif.MAKE, exif.MODEL, exif.DESCRIPTION):
            name, colon, rest = exif.text(value).partition(":")  # as ComfyUI writes: prompt:{…}
            if colon and name.lower() in ("prompt", "workflow"):
                found[name.lower()] = rest
    return {name: text for name, text in found.items() if text.strip()}
