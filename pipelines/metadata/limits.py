"""JSON and texts from strangers: as long and as deep as the tools write it, and no more."""

from __future__ import annotations

from collections.abc import Mapping

from lora_zoo.foreign import documents
from pipelines.errors import BadMetadata
from pipelines.metadata.found import as_object

_BOUNDS = documents.Bounds(length=4_000_000)  # characters; large ComfyUI workflows have some hundred thousand


def check_length(text: str, what: str) -> str:
    """Refuse a text that no tool would have written."""
    if len(text) > _BOUNDS.length:
        raise BadMetadata(f"the picture's {what} has {len(text):,} characters; at most {_BOUNDS.length:,} are read")
    return text


def parse_object(text: str, what: str) -> Mapping[str, object]:
    """Parse a JSON object within the limits. NaN, which JSON lacks but ComfyUI writes, becomes None."""
    return as_object(documents.json_value(text, f"the picture's {what}", _BOUNDS, error=BadMetadata), what)
