"""Parse JSON and YAML that somebody else wrote, within bounds that are checked before anything is built from it."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import yaml

from lora_zoo.errors import BadFile, ZooError
from lora_zoo.foreign import text as characters

_TOKENS = re.compile(r'\\.|["\[\]{}]', re.DOTALL)
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # how JSON spells half of a character, alone or beside its other half
_CONSTANTS = ("NaN", "Infinity", "-Infinity")  # numbers to Python's reader, words to all others
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Bounds:
    """What a document may be."""

    length: int = 4_000_000  # characters; large ComfyUI workflows have some hundred thousand
    depth: int = 64  # of lists and mappings in each other
    nodes: int = 1_000_000  # values, keys and collections of a YAML document


DEFAULT = Bounds()


def json_value(
    source: str | bytes,
    where: str,
    bounds: Bounds = DEFAULT,
    *,
    strict: bool = False,
    escape: bool = False,
    error: type[ZooError] = BadFile,
) -> object:
    """Parse a JSON document.

    Args:
        source: The document; bytes must be UTF-8.
        where: Its origin, for messages.
        bounds: How long and how deep it may be.
        strict: Refuse NaN and infinities, and an object that states a key twice, of which readers take different ones.
            Otherwise NaN and infinities, which JSON lacks but some tools write, become None, and the last key counts.
        escape: Write halves of characters out, as \\ud800, where a note in a document is worth more than its letters.
        error: The type of error to raise.

    Raises:
        ZooError: Of the type asked for: not UTF-8, not JSON, beyond the bounds, or with half of a character in it.
    """
    text = _decoded(source, where, error)
    _check_bounds(text, where, bounds, error)
    constant = _no_constant if strict else _nothing
    try:
        found = json.loads(text, parse_constant=constant, object_pairs_hook=_unique if strict else None)
    except (ValueError, RecursionError) as reason:  # ValueError: bad JSON, or a number of thousands of digits
        raise error(f"{where}: not JSON ({_brief(reason)})") from reason
    if _HALF.search(text):
        if escape:
            return _escaped(found)
        _check_characters(found, where, error)
    return found


def json_or_text(source: str, where: str, bounds: Bounds = Bounds(depth=16), error: type[ZooError] = BadFile) -> Any:
    """Return what a JSON reader makes of a word that somebody typed, or the word where it is no JSON.

    Raises:
        ZooError: Of the type asked for: beyond the bounds, with half of a character, or a number too long to be read.
    """
    characters.check(source, where, error)
    try:
        return json_value(source, where, bounds, strict=True, error=error)
    except ZooError as reason:
        if isinstance(reason.__cause__, json.JSONDecodeError) or source.strip() in _CONSTANTS:
            return source
        raise


def yaml_value(source: str, where: str, bounds: Bounds = DEFAULT, error: type[ZooError] = BadFile) -> object:
    """Parse a YAML document of plain values: no tags of Python's, no aliases, which can stand for any amount.

    Raises:
        ZooError: Of the type asked for: not YAML, beyond the bounds, or with aliases.
    """
    if len(source) > bounds.length:
        raise error(f"{where}: {len(source):,} characters; at most {bounds.length:,} are read")
    characters.check(source, where, error)
    try:
        _check_events(source, where, bounds, error)
        found = yaml.load(source, Loader=_LOADER)  # noqa: S506  a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as reason:
        if isinstance(reason, ZooError):
            raise
        raise error(f"{where}: not YAML ({_brief(reason)})") from reason
    _check_characters(found, where, error)
    return found


def _decoded(source: str | bytes, where: str, error: type[ZooError]) -> str:
    if isinstance(source, str):
        return characters.check(source, where, error)
    try:
        return source.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        raise error(f"{where}: not text in UTF-8 ({reason.reason} at byte {reason.start})") from reason


def _check_bounds(text: str, where: str, bounds: Bounds, error: type[ZooError]) -> None:
    if len(text) > bounds.length:
        raise error(f"{where}: {len(text):,} characters; at most {bounds.length:,} are read")
    depth = 0
    quoted = False
    for match in _TOKENS.finditer(text):  # counted without parsing, since parsers recurse
        token = match[0]
        if token == '"':
            quoted = not quoted
        elif not quoted and token in "[{":
            depth += 1
            if depth > bounds.depth:
                raise error(f"{where}: nested more than {bounds.depth} deep")
        elif not quoted and token in "]}":
            depth -= 1


def _check_events(source: str, where: str, bounds: Bounds, error: type[ZooError]) -> None:
    depth = nodes = 0
    for event in yaml.parse(source, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise error(f"{where}: line {event.start_mark.line + 1} uses an alias (*{event.anchor}); write it out")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        nodes += isinstance(event, yaml.NodeEvent)
        if depth > bounds.depth:
            raise error(f"{where}: nested more than {bounds.depth} deep")
        if nodes > bounds.nodes:
            raise error(f"{where}: more than {bounds.nodes:,} values")


def _check_characters(value: object, where: str, error: type[ZooError]) -> None:
    """Refuse halves of characters anywhere in a parsed document, whose depth is bounded."""
    if isinstance(value, str):
        characters.check(value, where, error)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_characters(key, where, error)
            _check_characters(item, where, error)
    elif isinstance(value, list):
        for item in value:
            _check_characters(item, where, error)


def _escaped(value: object) -> object:
    if isinstance(value, str):
        return characters.escaped(value)
    if isinstance(value, dict):
        return {characters.escaped(key): _escaped(item) for key, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list) else value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"a key is stated twice, {key!r}")
    return found


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is not a number in JSON")


def _nothing(_text: str) -> None:
    return None


def _brief(reason: Exception) -> str:
    said = str(reason)
    return said if len(said) <= 200 else f"{said[:197]}..."
