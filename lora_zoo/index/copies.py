"""Which LoRAs of the scanned folders are there more than once: the same file, or the same data under another head."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lora_zoo.index.rows import Row


@dataclass(frozen=True)
class Copies:
    """Rows with the same content."""

    what: str
    rows: tuple[Row, ...]
    spare: int  # bytes that all but the largest take; names of one file take none


def copies(rows: Iterable[Row]) -> list[Copies]:
    """Return the groups of copies, those that take most first."""
    by_data: dict[str, list[Row]] = {}
    for row in rows:
        if row.facts is not None:
            by_data.setdefault(row.facts.hashes.data or row.facts.hashes.sha256, []).append(row)
    found = [_copies(group) for group in by_data.values() if len(group) > 1]
    return sorted(found, key=lambda one: (-one.spare, one.rows[0].path))


def _copies(group: list[Row]) -> Copies:
    sizes = {row.inode: row.size for row in group}
    contents = {row.facts.hashes.sha256 for row in group if row.facts is not None}
    what = "the same file" if len(contents) == 1 else "the same weights with other metadata"
    if len(sizes) == 1:
        what = "one file under several names"
    return Copies(what, tuple(group), sum(sizes.values()) - max(sizes.values()))
