"""The short hashes by which other tools and sites know a file."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lora_zoo.header import header
from pipelines.metadata.found import clean_hash

_BLOCK = 1 << 20


@dataclass(frozen=True)
class FileHashes:
    """Hashes of the files behind a picture, as they are written into it."""

    model: str | None = None  # AutoV2; None: the model is a folder, which has no hash that others know
    adapters: Mapping[str, str] = field(default_factory=dict)  # name in the request -> AutoV3


def of_files(model: Path, adapters: Mapping[str, Path | None]) -> FileHashes:
    """Return the hashes of a model, if it is a single file, and of the LoRAs that have files."""
    known = {name: autov3(path) for name, path in adapters.items() if path is not None}
    return FileHashes(
        model=autov2(model) if model.is_file() else None,
        adapters={name: digest for name, digest in known.items() if digest is not None},
    )


def autov3(path: Path) -> str | None:
    """Return the first 12 digits of what the file states, or of its data without the head; None for no data."""
    head = header(path)
    stated = clean_hash(head.metadata.get("sshs_model_hash"))
    if stated and len(stated) >= 12 and not set(stated) - set("0123456789abcdef"):
        return stated[:12]
    return clean_hash(_sha256(head.data_start, *_identity(head.path))[:12])


def autov2(path: Path) -> str:
    """Return the first 10 digits of the sha256 of a whole file."""
    return _sha256(0, *_identity(path))[:10]


Identity = tuple[Path, int, int]


def _identity(path: Path) -> Identity:
    """Return what changes when the file does, so that a large file is hashed once."""
    state = path.stat()
    return path.absolute(), state.st_size, state.st_mtime_ns


@functools.lru_cache(maxsize=4096)
def _sha256(start: int, path: Path, size: int, changed: int) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(start)
        while block := file.read(_BLOCK):
            total.update(block)
    return total.hexdigest()
