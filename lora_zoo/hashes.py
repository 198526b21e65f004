"""The short hashes by which other tools and sites know a file."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

from lora_zoo.foreign import files
from lora_zoo.header import Header, header
from lora_zoo.sources import Source

_HEX = frozenset("0123456789abcdef")
_AUTOV2 = 10
AUTOV3_DIGITS = 12
_EMPTY = hashlib.sha256().hexdigest()[:AUTOV3_DIGITS]


@dataclass(frozen=True)
class LoraHashes:
    """All the hashes of one LoRA, in lower case. None: it has none of that kind."""

    sha256: str  # as `describe` gives it; of a PEFT folder, of weights and configuration together
    autov2: str | None  # the first 10 digits of the sha256 of the file of weights
    autov3: str | None  # the first 12 digits of what the file states, or of the sha256 of its data without the head
    data: str | None  # the sha256 of the data without the head: equal for files that differ in metadata only
    sshs_model: str | None  # as the head states it, all digits
    sshs_legacy: str | None


def of_lora(source: Source, head: Header) -> LoraHashes:
    """Hash a LoRA, a single file in one reading. `head` is that of its (first) file of weights."""
    stated = clean_hash(head.metadata.get("sshs_model_hash"))
    legacy = clean_hash(head.metadata.get("sshs_legacy_hash"))
    first, *others = source.parts
    if others:  # a hash of one part alone is not that of the LoRA
        return LoraHashes(source.digest(), None, None, None, stated, legacy)
    whole, data = _two(first.weights, head.data_start)
    sha256 = whole if first.config is None and first.component is None else source.digest()
    return LoraHashes(sha256, whole[:_AUTOV2], _autov3(stated, data), data, stated, legacy)


def autov3(path: Path) -> str | None:
    """Return the first 12 digits of what the file states, or of its data without the head; None for no data."""
    head = header(path)
    stated = clean_hash(head.metadata.get("sshs_model_hash"))
    return _autov3(stated, None) or _autov3(None, _sha256(head.data_start, *_identity(head.path)))


def autov2(path: Path) -> str:
    """Return the first 10 digits of the sha256 of a whole file."""
    return sha256(path)[:_AUTOV2]


def sha256(path: Path) -> str:
    """Return the sha256 of a whole file; a large one is read once for as long as it does not change."""
    return _sha256(0, *_identity(path))


def is_hex(digest: str) -> bool:
    return not set(digest) - _HEX


def clean_hash(value: object) -> str | None:
    """Return a hash in lower case without the prefix that some tools put; the hash of nothing counts as none."""
    if not isinstance(value, str):
        return None
    text = value.strip().lower().removeprefix("0x")
    # halves of characters can be stated in JSON, and no terminal or file can hold them
    return None if not text or text.startswith(_EMPTY) else text[:200].encode("utf-8", "replace").decode("utf-8")


def _autov3(stated: str | None, data: str | None) -> str | None:
    if stated and len(stated) >= AUTOV3_DIGITS and is_hex(stated):
        return stated[:AUTOV3_DIGITS]
    return clean_hash(data[:AUTOV3_DIGITS]) if data else None


Identity = tuple[Path, int, int]


def _identity(path: Path) -> Identity:
    """Return what changes when the file does, so that a large file is hashed once."""
    state = path.stat()
    return path.absolute(), state.st_size, state.st_mtime_ns


@functools.lru_cache(maxsize=4096)
def _sha256(start: int, path: Path, size: int, changed: int) -> str:
    return files.sha256(path, start)


def _two(path: Path, start: int) -> tuple[str, str]:
    """Return the sha256 of a file and of what comes after its head."""
    whole, data = hashlib.sha256(), hashlib.sha256()
    with files.opened(path) as file:
        whole.update(file.read(start))
        for block in files.blocks(file, path):
            whole.update(block)
            data.update(block)
    return whole.hexdigest(), data.hexdigest()
