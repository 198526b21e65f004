"""The head of a safetensors file: names, shapes and metadata, read without loading a tensor and without torch.

Files come from strangers, so nothing in the head is believed before it is checked against the size of the file,
and a pickle is recognised by its content, whatever its name: unpickling runs code, so no pickle is ever opened.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lora_zoo import fields
from lora_zoo.errors import BadFile

PEFT_WEIGHTS = "adapter_model.safetensors"
PEFT_CONFIG = "adapter_config.json"

_MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors library itself
_ITEM_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8}
_SCALAR_FORMATS = {"F64": "<d", "F32": "<f", "F16": "<e", "I64": "<q", "I32": "<i", "I16": "<h"}


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
        with self.path.open("rb") as file:
            file.seek(self.data_start + info.begin)
            raw = file.read(info.end - info.begin)
        if info.dtype == "BF16":  # the upper half of a float32
            return float(struct.unpack("<f", b"\0\0" + raw)[0])
        return float(struct.unpack(_SCALAR_FORMATS[info.dtype], raw)[0])


@dataclass(frozen=True)
class Source:
    """The file, or for PEFT the two files, that make one LoRA."""

    weights: Path
    config: Path | None

    @property
    def name(self) -> str:
        """Return what people call it: the folder's name for PEFT, whose files are all named alike."""
        if self.weights.name == PEFT_WEIGHTS:
            return self.weights.resolve().parent.name
        return self.weights.stem

    def digest(self) -> str:
        """Return the sha256 of the file. A PEFT config counts too: it holds the alphas, hence the strength."""
        total = hashlib.sha256()
        for path in (self.weights, self.config):
            if path is not None:
                with path.open("rb") as file:
                    while block := file.read(1 << 20):
                        total.update(block)
        return total.hexdigest()


def locate(path: Path) -> Source:
    """Find the weights at a path: a safetensors file, or a PEFT folder."""
    if os.path.isdir(path):  # pathlib's own tests raise for names that no file can have
        weights, config = path / PEFT_WEIGHTS, path / PEFT_CONFIG
        missing = [file.name for file in (weights, config) if not file.is_file()]
        if missing:
            raise BadFile(f"{path}: not a PEFT folder, {' and '.join(missing)} missing")
        return Source(weights, config)
    if not os.path.isfile(path):
        raise BadFile(f"{path}: no such file")
    config = path.with_name(PEFT_CONFIG)
    return Source(path, config if path.name == PEFT_WEIGHTS and config.is_file() else None)


def header(path: Path) -> Header:
    """Read and check the head of a safetensors file (or of the one in a PEFT folder)."""
    path = locate(path).weights
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(9)
        length = int.from_bytes(start[:8], "little")
        if len(start) < 9 or start[8:] != b"{" or not 2 <= length <= min(_MAX_HEADER, size - 8):
            raise BadFile(f"{path}: {_what_it_is(start)}; only safetensors files are read")
        raw = start[8:] + file.read(length - 1)
    head = fields.parse_object(raw, f"{path}: header")
    data_size = size - 8 - length
    tensors = {key: _tensor(value, f"{path}: {key}", data_size) for key, value in head.items() if key != "__metadata__"}
    if max((info.end for info in tensors.values()), default=0) != data_size:
        raise BadFile(f"{path}: the file is cut short or has bytes that belong to no tensor")
    stated = fields.as_object(head.get("__metadata__", {}), f"{path}: metadata")
    metadata = {key: fields.text(value, f"{path}: metadata {key!r}") for key, value in stated.items()}
    return Header(path, metadata, tensors, 8 + length)


def _what_it_is(start: bytes) -> str:
    if start[:4] == b"PK\x03\x04":
        return "a zip archive (as torch.save writes: a pickle, which can run code)"
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a pickle, which can run code"
    return "an empty file" if not start else "not a safetensors file"


def _tensor(value: object, where: str, data_size: int) -> TensorInfo:
    stated = fields.as_object(value, where)
    dtype = fields.text(stated.get("dtype"), f"{where} dtype")
    shape = tuple(fields.count(n, f"{where} shape") for n in fields.as_list(stated.get("shape"), f"{where} shape"))
    offsets = [fields.count(n, f"{where} offsets") for n in fields.as_list(stated.get("data_offsets"), where)]
    if len(offsets) != 2 or not offsets[0] <= offsets[1] <= data_size:
        raise BadFile(f"{where}: data offsets {offsets} lie outside the file ({data_size} bytes of data)")
    bits = _ITEM_BITS.get(dtype)
    if bits is not None and math.prod(shape) * bits != 8 * (offsets[1] - offsets[0]):
        raise BadFile(f"{where}: shape {list(shape)} of {dtype} does not match its {offsets[1] - offsets[0]} bytes")
    return TensorInfo(dtype, shape, offsets[0], offsets[1])
