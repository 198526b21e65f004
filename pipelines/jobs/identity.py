"""What decides a picture, as one digest: the request with nothing left open, and the model's own files."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from pipelines.resolve import Resolved

_PART = 1 << 20


def digest(resolved: Resolved) -> str:
    """Return the digest of a request; LoRAs are in it by their own digests."""
    text = resolved.request.model_dump_json() + fingerprint(resolved.spec.path)
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache
def fingerprint(model: Path) -> str:
    """Return the digest of a file, or of a folder's files and their names; read once per process."""
    found = hashlib.sha256()
    for file in [model] if model.is_file() else sorted(path for path in model.rglob("*") if path.is_file()):
        found.update(file.relative_to(model).as_posix().encode())
        with file.open("rb") as content:
            while part := content.read(_PART):
                found.update(part)
    return found.hexdigest()
