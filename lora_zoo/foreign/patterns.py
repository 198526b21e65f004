"""Compile patterns that somebody else wrote, by an engine whose time is linear in the text.

Python's own engine backtracks: a pattern of twenty characters can keep it busy for ever, uninterruptibly, with the
interpreter's lock held. RE2 (https://github.com/google/re2) cannot, and bounds its memory; what it lacks, look-around
and back-references, is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from lora_zoo.errors import BadFile, ZooError

MAX_LENGTH = 1_000  # characters of one pattern
MAX_NUMBER = 10_000  # patterns of one file
_MEMORY = 4 << 20  # bytes that one compiled pattern may take


def compiled(pattern: str, where: str, error: type[ZooError] = BadFile) -> Callable[[str], bool]:
    """Return a function that tells whether a whole text fits a pattern.

    Raises:
        ZooError: Of the type asked for, if the pattern is too long, too large once compiled, or not one that RE2 takes.
    """
    if len(pattern) > MAX_LENGTH:
        raise error(f"{where}: a pattern of {len(pattern):,} characters; at most {MAX_LENGTH:,} are read")
    if is_name(pattern):
        return pattern.__eq__
    try:
        fits = _compiled(pattern).fullmatch
    except _errors() as reason:
        raise error(f"{where}: {pattern!r} is not a regular expression that is read here ({_said(reason)})") from reason
    return lambda text: fits(text) is not None


def is_name(pattern: str) -> bool:
    """Tell whether a pattern is a plain name, as nearly all are, which fits itself only."""
    return pattern.isascii() and pattern.replace("_", "").isalnum()


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Any:
    import re2

    options = re2.Options()
    options.max_mem = _MEMORY
    options.log_errors = False
    return re2.compile(pattern, options)


def _errors() -> tuple[type[Exception], ...]:
    import re2

    return (re2.error, UnicodeError)


def _said(reason: Exception) -> str:
    said = reason.args[0] if reason.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
