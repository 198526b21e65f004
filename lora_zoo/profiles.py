"""Frequency profiles of LoRAs, by the content that they were measured of: a changed file has none.

Those of the LoRAs that come with the project lie beside the catalogue; those of all others in the index on disk.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from lora_zoo import fields
from lora_zoo.foreign import files
from lora_zoo.storage import atomic

HOME = Path(__file__).parent / "profiles.json"
Profile = tuple[float, ...]
_MOST_BYTES = 4 << 20


def load(path: Path = HOME) -> dict[str, Profile]:
    """Return profiles by sha256; no file is none."""
    if not path.exists():
        return {}
    found = fields.parse_object(files.read(path, _MOST_BYTES), str(path))
    listed = fields.as_object(found.get("profiles"), f"{path}: profiles")
    return {digest: parse(value, f"{path}: {digest}") for digest, value in listed.items()}


def save(profiles: Mapping[str, Profile], path: Path = HOME) -> None:
    """Write profiles whole or not at all, one to a line."""
    lines = ",\n".join(f"  {json.dumps(digest)}: {json.dumps(profiles[digest])}" for digest in sorted(profiles))
    atomic.write_text(f'{{\n "profiles": {{\n{lines}\n }}\n}}\n', path)


def parse(value: object, where: str) -> Profile:
    return tuple(fields.number(one, where) for one in fields.as_list(value, where))
