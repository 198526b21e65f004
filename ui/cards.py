"""What a page shows of a LoRA before it is chosen."""

from __future__ import annotations

from pydantic import JsonValue

from lora_zoo.catalog import Entry
from lora_zoo.library import Library

_UNKNOWN = ("", "unknown")


def cards(library: Library) -> list[JsonValue]:
    """Return every LoRA as a card; `handle` is the name to ask for it by."""
    ranges = {row.path: row.facts.weight_range for row in library.rows() if row.facts is not None}
    return [_card(library, entry, ranges.get(entry.file)) for entry in library.entries()]


def _card(library: Library, entry: Entry, weights: tuple[float, float] | None) -> JsonValue:
    return {
        "handle": library.handle(entry),
        "name": entry.name,
        "title": entry.title,
        "category": entry.category,
        "family": "" if entry.family in _UNKNOWN else entry.family,
        "triggers": list(entry.triggers),
        "weight": entry.weight,
        "range": None if weights is None else list(weights),
        "rank": entry.rank,
        "picture": f"medley/thumbnails/{entry.sha256}" if entry.thumbnail else None,
    }
