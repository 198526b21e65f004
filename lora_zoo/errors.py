"""What can go wrong with the user's own input in the zoo: a name nobody knows, a file that cannot be trusted.

All are `ValueError`s with a message fit for the user; the front ends show it unchanged.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

_SHOWN_KEYS = 5
_SHOWN_NAMES = 40
_NEAR = 3
_COMPARED = 200  # characters of a name that may be of any length; comparing takes the square of it


class ZooError(ValueError):
    """Base of every error that the zoo raises for input it does not accept."""


class UnknownName(ZooError):
    """A name that is not in the list it was looked up in."""

    def __init__(self, what: str, name: str, choices: Iterable[str], hint: str = "") -> None:
        super().__init__(f"unknown {what} {name!r}{nearest(name, choices)}{hint}")


class UnknownLora(UnknownName):
    """A name that no LoRA goes by. Its message holds a few near names: there may be thousands."""

    def __init__(self, name: str, choices: Iterable[str], hint: str = "") -> None:
        ZooError.__init__(self, f"unknown LoRA {name!r}{near(name, choices)}{hint}")


class BadFile(ZooError):
    """A file that is not what it should be, or does not fit. Nothing of it is used."""


class UnsupportedKind(BadFile):
    """A sound file of a kind of adapter that is not read yet."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return the end of an "unknown name" message: the nearest choice, if any is near, and what there is."""
    known = list(dict.fromkeys(choices))
    if not known:
        return "; none is known"
    by_lower = {choice.lower(): choice for choice in reversed(known)}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.5)
    listed = ", ".join(known[:_SHOWN_NAMES])
    more = f" and {len(known) - _SHOWN_NAMES} more" if len(known) > _SHOWN_NAMES else ""
    hint = f"; did you mean {by_lower[close[0]]!r}?" if close else "."
    return f"{hint} Known: {listed}{more}."


def near(name: str, choices: Iterable[str]) -> str:
    """Return the end of an "unknown name" message where there may be thousands of choices: the three nearest."""
    by_lower = {choice.lower(): choice for choice in choices}
    if not by_lower:
        return "; none is known."
    close = [
        repr(by_lower[one]) for one in difflib.get_close_matches(name[:_COMPARED].lower(), list(by_lower), _NEAR, 0.5)
    ]
    if not close:
        return f"; none of the {len(by_lower):,} that are known has a name like it."
    return f"; did you mean {' or '.join(filter(None, [', '.join(close[:-1]), close[-1]]))}?"


def nearest_file(path: Path) -> str:
    """Return the end of a "no such file" message: the file beside it whose name is nearest, if any is near."""
    try:
        beside = sorted(one.name for one in path.parent.iterdir())
    except (OSError, ValueError):  # the latter for names that no file can have
        return ""
    close = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.5)
    return f"; did you mean '{path.parent / close[0]}'?" if close else ""


def first_few(items: Iterable[str]) -> str:
    """Return the first few of many offending keys, and how many there are in all."""
    found = list(items)
    if len(found) <= _SHOWN_KEYS:
        return ", ".join(found)
    return f"{', '.join(found[:_SHOWN_KEYS])}, ... ({len(found)} in all)"
