"""The head of a safetensors file: names, shapes and metadata, read without loading a tensor and without torch.

Files come from strangers, so nothing in the head is believed before it is checked. This is the gate that every file
passes before any of its data is read: what it declares must be said once, be of a known type, add up byte for byte and
stay within a budget. A pickle is recognised by its content, whatever its name: unpickling runs code, so none is opened.
"""

from __future__ import annotations

import math
import os
import struct
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lora_zoo import fields
from lora_zoo.errors import BadFile
from lora_zoo.foreign import files
from lora_zoo.sources import locate

#: Bytes of the head. Real ones have kilobytes, with a picture in their metadata a few megabytes; parsed, JSON takes
#: many times its length, so that the limit of the safetensors library itself, 100 MB, would be gigabytes of memory.
MAX_HEADER = 16 << 20
#: Bytes of a whole file. The largest that make sense are changes to every weight of SDXL, about 5 GB in half precision.
MAX_FILE = 8 << 30

_MAX_DIMENSIONS = 8
_FIELDS = {"dtype", "shape", "data_offsets"}
_ITEM_BYTES = {
    **{"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1},
    **{"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1},
}
_SCALAR_FORMATS = {"F64": "<d", "F32": "<f", "F16": "<e", "I64": "<q", "I32": "<i", "I16": "<h"}

#: What files that are not safetensors begin with.
_BEGINNINGS: Mapping[bytes, str] = {
    b"PK\x03\x04": "a zip archive (as torch.save writes: a pickle, which can run code)",
    **{bytes((0x80, protocol)): "a pickle, which can run code" for protocol in range(2, 6)},
    b"\x1f\x8b": "a gzip archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"GGUF": "a GGUF file",
    b"\x89PNG": "a picture",
    b"version ": "a Git LFS pointer, not the file it points to",
    b"<": "a web page or XML",
}


@dataclass(frozen=True)
class Budget:
    """What a file of one use may be."""

    use: str
    max_file: int  # bytes
    empty_tensors: bool = False  # marks of a single key and no data, as checkpoints have them


ADAPTER = Budget("adapter", MAX_FILE)
#: SDXL in single precision with a second, averaged set of weights takes about 24 GB.
CHECKPOINT = Budget("checkpoint", 32 << 30, empty_tensors=True)


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a file: where it lies among the data, and what it holds."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a safetensors file says about itself."""

    path: Path
    metadata: Mapping[str, str]
    tensors: Mapping[str, TensorInfo]
    data_start: int

    def scalar(self, key: str) -> float | None:
        """Return the value of a one-element tensor, None when it is not a single plain number."""
        info = self.tensors[key]
        if math.prod(info.shape) != 1 or info.dtype not in (*_SCALAR_FORMATS, "BF16"):
            return None
        with files.opened(self.path) as file:
            file.seek(self.data_start + info.begin)
            raw = file.read(info.end - info.begin)
        if info.dtype == "BF16":  # the upper half of a float32
            return float(struct.unpack("<f", b"\0\0" + raw)[0])
        return float(struct.unpack(_SCALAR_FORMATS[info.dtype], raw)[0])


def header(path: Path) -> Header:
    """Read and check the head of a safetensors file (or of the one in a PEFT folder)."""
    return of_weights(locate(path).weights)


def of_weights(path: Path, budget: Budget = ADAPTER, within: Path | None = None) -> Header:
    """Read and check the head of a file of weights; `within` is the folder that it may not lead out of."""
    with files.opened(path, within) as file:
        return parse(file, os.fstat(file.fileno()).st_size, path, budget)


def parse(file: BinaryIO, size: int, path: Path, budget: Budget = ADAPTER) -> Header:
    """Read and check the head of an open file of a known size; `path` names it in messages."""
    if size > budget.max_file:
        raise BadFile(f"{path}: {size:,} bytes; a file of more than {budget.max_file:,} is no {budget.use}")
    start = file.read(9)
    length = int.from_bytes(start[:8], "little")
    _check_beginning(start, length, size, path)
    head = fields.parse_once(start[8:] + file.read(length - 1), f"{path}: header")
    tensors = {key: _tensor(value, f"{path}: {key}", budget) for key, value in head.items() if key != "__metadata__"}
    _check_names(tensors, path)
    _check_tiling(tensors, size - 8 - length, path)
    stated = fields.as_object(head.get("__metadata__", {}), f"{path}: metadata")
    metadata = {key: fields.text(value, f"{path}: metadata {key!a}") for key, value in stated.items()}
    if any(_unprintable(text) for entry in metadata.items() for text in entry):
        raise BadFile(f"{path}: metadata with half of a character, which cannot be shown or written")
    return Header(path, metadata, tensors, 8 + length)


def _check_beginning(start: bytes, length: int, size: int, path: Path) -> None:
    if not start:
        raise BadFile(f"{path}: an empty file; only safetensors files are read")
    for beginning, what in _BEGINNINGS.items():
        if start.startswith(beginning) and start[8:] != b"{":
            raise BadFile(f"{path}: {what}; only safetensors files are read")
    if len(start) < 9 or start[8:] != b"{":
        raise BadFile(f"{path}: not a safetensors file; only safetensors files are read")
    if length > size - 8:
        raise BadFile(f"{path}: the header is said to take {length:,} bytes, but the file has {size:,}: cut short?")
    if not 2 <= length <= MAX_HEADER:
        raise BadFile(f"{path}: the header is said to take {length:,} bytes; 2 to {MAX_HEADER:,} are allowed")


def _tensor(value: object, where: str, budget: Budget) -> TensorInfo:
    stated = fields.as_object(value, where)
    if set(stated) != _FIELDS:
        raise BadFile(f"{where}: states {sorted(stated)}, not {sorted(_FIELDS)}")
    dtype = fields.text(stated["dtype"], f"{where} dtype")
    shape = tuple(fields.count(n, f"{where} shape") for n in fields.as_list(stated["shape"], f"{where} shape"))
    offsets = [fields.count(n, f"{where} offsets") for n in fields.as_list(stated["data_offsets"], where)]
    if dtype not in _ITEM_BYTES:
        raise BadFile(f"{where}: data of type {dtype!r} is not known, only {', '.join(_ITEM_BYTES)}")
    if 0 in shape and not budget.empty_tensors:
        raise BadFile(f"{where}: a tensor of nothing, whose shape has a 0")
    if len(shape) > _MAX_DIMENSIONS or max((*shape, *offsets), default=1) > budget.max_file:
        raise BadFile(f"{where}: declares more than {budget.max_file:,} bytes or {_MAX_DIMENSIONS} dimensions")
    if len(offsets) != 2 or offsets[0] > offsets[1] or (offsets[0] == offsets[1] and 0 not in shape):
        raise BadFile(f"{where}: data offsets {offsets[:3]} are not a beginning and an end")
    if math.prod(shape) * _ITEM_BYTES[dtype] != offsets[1] - offsets[0]:
        raise BadFile(f"{where}: shape {list(shape)} of {dtype} does not match its {offsets[1] - offsets[0]:,} bytes")
    return TensorInfo(dtype, shape, offsets[0], offsets[1])


def _check_names(names: Iterable[str], path: Path) -> None:
    """Refuse names that look like others or like nothing: a key is a name, and says what it says."""
    for name in names:
        if name.isascii() and name.isprintable():
            continue
        if unicodedata.normalize("NFC", name) != name or any(unicodedata.category(c)[0] == "C" for c in name):
            raise BadFile(f"{path}: the key {name[:80]!a} is not in normal form or has control characters")


def _unprintable(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _check_tiling(tensors: Mapping[str, TensorInfo], data_size: int, path: Path) -> None:
    """See that the tensors fill the data one after the other: no byte is shared, left over, or outside the file."""
    end = 0
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        where = f"{path}: {name}: data offsets [{info.begin}, {info.end}]"
        if info.end > data_size:
            raise BadFile(f"{where} lie outside the file ({data_size} bytes of data)")
        if info.begin != end:
            fault = "overlap those of another tensor" if info.begin < end else "leave a gap that belongs to no tensor"
            raise BadFile(f"{where} {fault}")
        end = info.end
    if end != data_size:
        raise BadFile(f"{path}: {data_size - end:,} bytes at the end belong to no tensor")
