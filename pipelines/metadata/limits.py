"""JSON from strangers: as long and as deep as the tools write it, and no more."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from pipelines.errors import BadMetadata
from pipelines.metadata.found import as_object

MAX_TEXT = 4_000_000  # characters; large ComfyUI workflows have some hundred thousand
MAX_DEPTH = 64
_TOKENS = re.compile(r'\\.|["\[\]{}]', re.DOTALL)


def check_length(text: str, what: str) -> str:
    """Refuse a text that no tool would have written."""
    if len(text) > MAX_TEXT:
        raise BadMetadata(f"the picture's {what} has {len(text):,} characters; at most {MAX_TEXT:,} are read")
    return text


def parse_object(text: str, what: str) -> Mapping[str, object]:
    """Parse a JSON object within the limits. NaN, which JSON lacks but ComfyUI writes, becomes None."""
    if _depth(check_length(text, what)) > MAX_DEPTH:
        raise BadMetadata(f"the picture's {what} is nested more than {MAX_DEPTH} deep")
    try:
        parsed = json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise BadMetadata(f"the picture's {what} is not JSON ({error})") from error
    return as_object(parsed, what)


def _depth(text: str) -> int:
    """Return how deep brackets nest outside strings, without parsing; counting stops past the limit."""
    depth = deepest = 0
    quoted = False
    for match in _TOKENS.finditer(text):
        token = match[0]
        if token == '"':
            quoted = not quoted
        elif not quoted and token in "[{":
            depth += 1
            deepest = max(deepest, depth)
            if deepest > MAX_DEPTH:
                break
        elif not quoted and token in "]}":
            depth -= 1
    return deepest
