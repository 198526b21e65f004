"""Typed reading of JSON: every field is checked where it enters, so that nothing past here holds an `object`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

from lora_zoo.errors import BadFile
from lora_zoo.foreign import documents

Object = Mapping[str, object]


def parse_object(text: str | bytes, where: str) -> Object:
    """Parse a JSON object. `where` names its origin in error messages."""
    return as_object(documents.json_value(text, where), where)


def parse_once(text: bytes, where: str) -> Object:
    """Parse a JSON object strictly: UTF-8, finite numbers, and no object that says the same key twice.

    Readers differ in which of two equal keys they take, so that such a file would mean two things.
    """
    return as_object(documents.json_value(text, where, documents.Bounds(length=len(text)), strict=True), where)


def as_object(value: object, where: str) -> Object:
    if not isinstance(value, dict):
        raise BadFile(f"{where}: expected a JSON object, got {_brief(value)}")
    return cast(Object, value)


def as_list(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise BadFile(f"{where}: expected a list, got {_brief(value)}")
    return cast(list[object], value)


def text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise BadFile(f"{where}: expected text, got {_brief(value)}")
    return value


def number(value: object, where: str) -> float:
    """Check a finite number; JSON's true and false are not numbers, though Python's are."""
    try:
        found = math.nan if isinstance(value, bool) or not isinstance(value, (int, float)) else float(value)
    except OverflowError:  # a whole number of hundreds of digits
        found = math.inf
    if not math.isfinite(found):
        raise BadFile(f"{where}: expected a finite number, got {_brief(value)}")
    return found


def count(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadFile(f"{where}: expected a whole number of 0 or more, got {_brief(value)}")
    return value


def texts(value: object, where: str) -> tuple[str, ...]:
    return tuple(text(item, where) for item in as_list(value, where))


def _brief(value: object) -> str:
    shown = str(value) if isinstance(value, Exception) else repr(value)
    return shown if len(shown) <= 100 else f"{shown[:97]}..."
