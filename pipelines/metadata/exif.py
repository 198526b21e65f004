"""The few EXIF fields that hold how a picture was made.

Written by hand, since what Pillow writes for these fields has a type (BYTE) that other readers cannot decode; read by
hand, since the data come from strangers: every offset is checked, nothing is followed twice.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from pipelines.errors import BadMetadata

MAKE, MODEL, MAKER_NOTE, USER_COMMENT = 0x010F, 0x0110, 0x927C, 0x9286
DESCRIPTION = 0x010E
_POINTER = 0x8769  # from the first directory to EXIF's own
_KEPT = frozenset({DESCRIPTION, MAKE, MODEL, MAKER_NOTE, USER_COMMENT})
_START = b"Exif\0\0"
_UNDEFINED, _LONG, _ASCII, _BYTE = 7, 4, 2, 1
_MOST_FIELDS = 1000
_UNICODE, _PLAIN, _UNSAID = b"UNICODE\0", b"ASCII\0\0\0", bytes(8)


def write(fields: Mapping[int, bytes]) -> bytes:
    """Return an EXIF block, with the fields in EXIF's own directory."""
    head = struct.pack(">2sHI", b"MM", 42, 8)
    first = struct.pack(">HHHIII", 1, _POINTER, _LONG, 1, 26, 0)
    start = 26 + 2 + 12 * len(fields) + 4
    entries, data = b"", b""
    for tag in sorted(fields):
        value = fields[tag]
        place = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(">I", start + len(data))
        entries += struct.pack(">HHI", tag, _UNDEFINED, len(value)) + place
        if len(value) > 4:
            data += value + b"\0" * (len(value) % 2)
    return _START + head + first + struct.pack(">H", len(fields)) + entries + bytes(4) + data


def read(block: bytes) -> dict[int, bytes]:
    """Return the fields that tools write to; of one that is in both directories, the one in EXIF's own."""
    data = block.removeprefix(_START)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        raise BadMetadata("the picture's EXIF data do not begin as EXIF does")
    try:
        first = _directory(data, struct.unpack_from(f"{order}I", data, 4)[0], order)
        pointer = first.pop(_POINTER, None)
        own = {} if pointer is None else _directory(data, struct.unpack(f"{order}I", pointer)[0], order)
    except struct.error as error:
        raise BadMetadata("the picture's EXIF data are cut short") from error
    return {tag: value for tag, value in {**first, **own}.items() if tag in _KEPT}


def _directory(data: bytes, start: int, order: str) -> dict[int, bytes]:
    (count,) = struct.unpack_from(f"{order}H", data, start)
    if count > _MOST_FIELDS:
        raise BadMetadata(f"the picture's EXIF data state {count} fields; at most {_MOST_FIELDS} are read")
    found: dict[int, bytes] = {}
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, size = struct.unpack_from(f"{order}HHI", data, place)
        wanted = tag == _POINTER and kind == _LONG and size == 1
        if wanted:
            found[tag] = data[place + 8 : place + 12]
        elif tag in _KEPT and kind in (_UNDEFINED, _ASCII, _BYTE):
            found[tag] = _value(data, place + 8, size, order)
    return found


def _value(data: bytes, place: int, size: int, order: str) -> bytes:
    begin = place if size <= 4 else struct.unpack_from(f"{order}I", data, place)[0]
    if begin + size > len(data):
        raise BadMetadata("the picture's EXIF data point outside themselves")
    return data[begin : begin + size]


def comment(text: str) -> bytes:
    """Encode a user comment as A1111 and CivitAI read it."""
    return _UNICODE + text.encode("utf-16-be", "replace")


def text(value: bytes) -> str:
    """Decode a field: a user comment by its first eight bytes, anything else as UTF-8."""
    code, rest = value[:8], value[8:]
    if code == _UNICODE:
        return _utf16(rest)
    plain = rest if code in (_PLAIN, _UNSAID) else value
    return plain.decode("utf-8", "replace").rstrip("\0")


def _utf16(raw: bytes) -> str:
    """Decode UTF-16 of either order: a mark decides, else the side with more zero bytes; a tie is big-endian."""
    if raw[:2] == b"\xff\xfe":
        return raw[2:].decode("utf-16-le", "replace")
    if raw[:2] == b"\xfe\xff":
        return raw[2:].decode("utf-16-be", "replace")
    little = raw[1::2].count(0) > raw[0::2].count(0)
    return raw.decode("utf-16-le" if little else "utf-16-be", "replace")
