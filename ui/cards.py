"""What a page shows of a LoRA before it is chosen."""

from __future__ import annotations

from pydantic import JsonValue

from lora_zoo.catalog import Entry
from lora_zoo.library import Library
from ui import discreet

_UNKNOWN = ("", "unknown")


def cards(library: Library) -> list[JsonValue]:
    """Return every LoRA as a card; `handle` is the name to ask for it by, and each content has one card of a name."""
    ranges = {row.path: row.facts.weight_range for row in library.rows() if row.facts is not None}
    entries = {library.handle(entry): entry for entry in reversed(library.entries())}
    return [_card(handle, entry, ranges.get(entry.file)) for handle, entry in reversed(entries.items())]


def refused(library: Library) -> list[JsonValue]:
    """Return the files that cannot be used, each with its name below its folder and the reason."""
    return [{"name": row.file, "error": discreet.said(row.error)} for row in library.rows() if row.error]


def _card(handle: str, entry: Entry, weights: tuple[float, float] | None) -> JsonValue:
    return {
        "handle": handle,
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
