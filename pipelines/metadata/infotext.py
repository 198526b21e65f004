"""The grammar of A1111's text: prompt, `Negative prompt: …`, and settings as `Key: value` pairs.

Settings begin at the last line that begins with `Steps:` and a number, and all that follows belongs to them: templates
of prompts, or the rest of a value in quotes that holds a line's end. Where no line begins so, the last one is settings
if it holds enough pairs; text that was made one line is parted at its own markers.
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
_STEPS_LINE = re.compile(r"^[ \t]{0,9}Steps:[ \t]{0,9}\d", re.MULTILINE)
_STEPS = re.compile(r"Steps: \d{1,6},")
_TEMPLATES = ("Template", "Negative Template")  # the rest of whose line is their value
_TAG = re.compile(r"<(\w{1,16}):([^<>\n]{1,400})>")
_LEAST_PAIRS = 3  # fewer, and A1111 takes the last line for a part of the prompt
_LONGEST = 200_000  # characters of the settings; those with all of CivitAI's resources have some thousand
_DECODER = json.JSONDecoder(strict=False)  # which lets a value in quotes hold a line's end


@dataclass(frozen=True)
class Tag:
    """An extra network in a prompt, such as <lora:NAME:0.8>."""

    kind: str
    arguments: tuple[str, ...]


def split(text: str) -> tuple[str, str, dict[str, str]]:
    """Return the prompt, the negative prompt and the settings. Of a key written twice the last counts, as in A1111."""
    bare = text.strip()
    begin, settings = _settings(bare)
    parts: tuple[list[str], list[str]] = ([], [])
    negative = False
    for line in map(str.strip, _prompts(bare, begin).strip().split("\n")):
        if line.startswith(NEGATIVE):
            negative, line = True, line.removeprefix(NEGATIVE).strip()
        parts[negative].append(line)
    return "\n".join(parts[0]), "\n".join(parts[1]), settings


def _settings(bare: str) -> tuple[int, dict[str, str]]:
    """Return where the settings begin, and these; the text's end if there are none."""
    for begin in _beginnings(bare):
        settings = dict(pairs(bare[begin:]))
        if len(settings) >= _LEAST_PAIRS:
            return begin, settings
    return len(bare), {}


def _beginnings(bare: str) -> Iterator[int]:
    """Yield where settings may begin, the likeliest first."""
    if lines := [match.start() for match in _STEPS_LINE.finditer(bare)]:
        yield lines[-1]
    line = bare.rfind("\n") + 1
    inside = bare.rfind(" Steps: ", line)
    if inside >= 0 and _STEPS.match(bare, inside + 1):
        yield inside + 1
    yield line


def _prompts(bare: str, end: int) -> str:
    """Return what stands before the settings; a negative prompt on the prompt's line gets one of its own."""
    before, line = bare[:end], bare.rfind("\n", 0, end) + 1
    place = before.rfind(f" {NEGATIVE}", line)
    if end == line or place < 0 or before.startswith(NEGATIVE) or f"\n{NEGATIVE}" in before:
        return before
    return f"{before[:place]}\n{before[place + 1 :]}"


def is_json(text: str) -> bool:
    """Tell a JSON object, as Fooocus puts where A1111's text is, from a prompt that begins with a brace."""
    bare = text.strip()
    return bare.startswith("{") and bare.endswith("}") and "\nSteps: " not in bare


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield the settings. A value in quotes, braces or brackets may hold commas, colons and ends of lines."""
    if len(text) > _LONGEST:
        raise BadMetadata(f"the picture's settings have {len(text):,} characters; at most {_LONGEST:,} are read")
    place = 0
    while place < len(text):
        end = _end(text, place)
        colon = text.find(":", place, end)
        key = text[place:colon].strip()
        if colon < 0 or not _KEY.fullmatch(key):
            place = end + 1
        elif key in _TEMPLATES:
            line = _find(text, "\n", colon)
            yield key, text[colon + 1 : line].strip()
            place = line + 1
        else:
            value, place = _value(text, colon + 1)
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


def _end(text: str, start: int) -> int:
    """Return where a pair ends that has no quotes: at a comma or a line's end."""
    comma = _find(text, ",", start)
    line = text.find("\n", start, comma)
    return comma if line < 0 else line


def _value(text: str, start: int) -> tuple[str, int]:
    """Return the value that begins here, and the place after the sign that ends it."""
    while start < len(text) and text[start] == " ":
        start += 1
    if text[start : start + 1] in ('"', "{", "["):
        try:
            parsed, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = -1  # not JSON after all: a plain value that begins so
        else:
            value = parsed if isinstance(parsed, str) else text[start:end]
            return value, _end(text, end) + 1
    end = _end(text, start)
    return text[start:end].strip(), end + 1
