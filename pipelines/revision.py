"""Which Medley made a picture: a digest of the code that decides what pictures look like."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_DECIDES = ("lora_zoo", "composer", "pipelines")


@cache
def revision(root: Path = ROOT) -> str:
    """Return the first twelve digits of the code's digest; read once, as the code that runs is."""
    return digest(root)[:12]


def digest(root: Path = ROOT) -> str:
    """Return the sha256 over the Python files of the packages that decide, their names included, in hexadecimal."""
    found = hashlib.sha256()
    for file in sorted(file for package in _DECIDES for file in (root / package).rglob("*.py")):
        content = file.read_bytes()
        found.update(f"{file.relative_to(root).as_posix()}\0{len(content)}\0".encode())
        found.update(content)
    return found.hexdigest()
