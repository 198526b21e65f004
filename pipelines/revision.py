"""Which Medley made a picture: a digest of the code that decides what pictures look like."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_DECIDES = ("lora_zoo", "composer", "pipelines")


@cache
def revision(root: Path = ROOT) -> str:
    """Return twelve hexadecimal digits of the SHA-256 over these packages' Python files, their names included."""
    digest = hashlib.sha256()
    for file in sorted(file for package in _DECIDES for file in (root / package).rglob("*.py")):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(root).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:12]
