"""The grammar of A1111's text: prompt, `Negative prompt: …`, and a last line of `Key: value` pairs.

Scanned in one pass without backtracking, so that a text made to be slow is not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.errors import BadMetadata

NEGATIVE = "Negative prompt:"
_KEY = re.compile(r"\w[\w \-/]{1,60}")
_TAG = re.compile(r"<(\w{1,16}):([^<>\n]{1,400})>")
_LEAST_PAIRS = 3  # fewer, and A1111 takes the last line for a part of the prompt
_LONGEST_LINE = 200_000  # characters of the settings; those with all of CivitAI's resources have some thousand
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Tag:
    """An extra network in a prompt, such as <lora:NAME:0.8>."""

    kind: str
    arguments: tuple[str, ...]


def split(text: str) -> tuple[str, str, dict[str, str]]:
    """Return the prompt, the negative prompt and the settings. Of a key written twice the last counts, as in A1111."""
    *lines, last = text.strip().split("\n")
    settings = dict(pairs(last))
    if len(settings) < _LEAST_PAIRS:
        lines, settings = [*lines, last], {}
    parts: tuple[list[str], list[str]] = ([], [])
    negative = False
    for line in map(str.strip, lines):
        if line.startswith(NEGATIVE):
            negative, line = True, line.removeprefix(NEGATIVE).strip()
        parts[negative].append(line)
    return "\n".join(parts[0]), "\n".join(parts[1]), settings


def is_json(text: str) -> bool:
    """Tell a JSON object, as Fooocus puts where A1111's text is, from a prompt that begins with a brace."""
    bare = text.strip()
    return bare.startswith("{") and bare.endswith("}") and "\nSteps: " not in bare


def pairs(line: str) -> Iterator[tuple[str, str]]:
    """Yield the settings of a line. A value in quotes, braces or brackets may hold commas and colons."""
    if len(line) > _LONGEST_LINE:
        raise BadMetadata(
            f"the picture's line of settings has {len(line):,} characters; at most {_LONGEST_LINE:,} are read"
        )
    place = 0
    while place < len(line):
        comma = _find(line, ",", place)
        colon = line.find(":", place, comma)
        key = line[place:colon].strip()
        if colon < 0 or not _KEY.fullmatch(key):
            place = comma + 1
            continue
        value, place = _value(line, colon + 1)
        yield key, value


def tags(prompt: str) -> tuple[str, list[Tag]]:
    """Return a prompt without its tags, and the tags."""
    found = [Tag(match[1].lower(), tuple(match[2].split(":"))) for match in _TAG.finditer(prompt)]
    return _TAG.sub("", prompt).strip(), found


def quote(value: str) -> str:
    """Return a value as A1111 writes it: in quotes when it holds what would end it."""
    return json.dumps(value, ensure_ascii=False) if set(',:\n"') & set(value) else value


def _find(line: str, character: str, start: int) -> int:
    place = line.find(character, start)
    return len(line) if place < 0 else place


def _value(line: str, start: int) -> tuple[str, int]:
    """Return the value that begins here, and the place after the comma that ends it."""
    while start < len(line) and line[start] == " ":
        start += 1
    if line[start : start + 1] in ('"', "{", "["):
        try:
            parsed, end = _DECODER.raw_decode(line, start)
        except (ValueError, RecursionError):
            end = -1  # not JSON after all: a plain value that begins so
        else:
            value = parsed if isinstance(parsed, str) else line[start:end]
            return value, _find(line, ",", end) + 1
    comma = _find(line, ",", start)
    return line[start:comma].strip(), comma + 1
