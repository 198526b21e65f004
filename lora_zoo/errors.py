"""What can go wrong with the user's own input in the zoo: a name nobody knows, a file that cannot be trusted.

All are `ValueError`s with a message fit for the user; the front ends show it unchanged.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

_SHOWN_KEYS = 5
_SHOWN_NAMES = 40
_SHOWN_CHARACTERS = 200
_NEAR = 0.65  # likeness from which a name is proposed: two letters exchanged in a name of four are 0.75
_MOST_NEAR = 3  # names proposed where there may be thousands
_COMPARED = 200  # characters of a name that may be of any length; comparing takes the square of it


class ZooError(ValueError):
    """Base of every error that the zoo raises for input it does not accept."""


class UnknownName(ZooError):
    """A name that is not in the list it was looked up in."""

    def __init__(self, what: str, name: str, choices: Iterable[str], hint: str = "", known_as: str = "") -> None:
        """Tell the nearest choice and all there are; or, where the name's meaning is known, that in its place."""
        guess = f": {known_as}{listed(choices)}" if known_as else nearest(name, choices)
        super().__init__(f"unknown {what} {shortened(name)}{guess}{hint}")


class UnknownLora(UnknownName):
    """A name that no LoRA goes by. Its message holds a few near names: there may be thousands."""

    def __init__(self, name: str, choices: Iterable[str], hint: str = "") -> None:
        ZooError.__init__(self, f"unknown LoRA {shortened(name)}{near(name, choices)}{hint}")


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
    close = difflib.get_close_matches(name[:_COMPARED].lower(), list(by_lower), n=1, cutoff=_NEAR)
    hint = f"; did you mean {by_lower[close[0]]!r}?" if close else "."
    return f"{hint}{listed(known)}"


def listed(choices: Iterable[str]) -> str:
    """Return the sentence that names what there is."""
    known = list(dict.fromkeys(choices))
    more = f" and {len(known) - _SHOWN_NAMES} more" if len(known) > _SHOWN_NAMES else ""
    return f" Known: {', '.join(known[:_SHOWN_NAMES])}{more}."


def near(name: str, choices: Iterable[str]) -> str:
    """Return the end of an "unknown name" message where there may be thousands of choices: the three nearest."""
    by_lower = {choice.lower(): choice for choice in choices}
    if not by_lower:
        return "; none is known."
    wanted = name[:_COMPARED].lower()
    close = [repr(by_lower[one]) for one in difflib.get_close_matches(wanted, list(by_lower), _MOST_NEAR, _NEAR)]
    if not close:
        return f"; none of the {len(by_lower):,} that are known has a name like it."
    return f"; did you mean {' or '.join(filter(None, [', '.join(close[:-1]), close[-1]]))}?"


def nearest_file(path: Path) -> str:
    """Return the end of a "no such file" message: the file beside it whose name is nearest, if any is near."""
    try:
        beside = {one.name: one.stem for one in sorted(path.parent.iterdir())}
    except (OSError, ValueError):  # the latter for names that no file can have
        return ""
    stem = path.stem[:_COMPARED]  # endings are alike where nothing else is
    near = [name for name, own in beside.items() if difflib.SequenceMatcher(None, stem, own).ratio() >= _NEAR]
    close = difflib.get_close_matches(path.name[:_COMPARED], near, n=1, cutoff=_NEAR)
    return f"; did you mean '{path.parent / close[0]}'?" if close else ""


def shortened(value: object) -> str:
    """Return a value as code, cut in its middle where it is long: a message must stay readable."""
    try:
        text = repr(value[: 2 * _SHOWN_CHARACTERS] if isinstance(value, str | bytes) else value)
    except ValueError:  # a whole number of more digits than Python writes
        return "a number of thousands of digits"
    length = len(value) if isinstance(value, str | bytes) else len(text)
    if length <= _SHOWN_CHARACTERS:
        return text
    return f"{text[: _SHOWN_CHARACTERS // 2]}… ({length:,} characters)"


def first_few(items: Iterable[str]) -> str:
    """Return the first few of many offending keys, and how many there are in all."""
    found = list(items)
    if len(found) <= _SHOWN_KEYS:
        return ", ".join(found)
    return f"{', '.join(found[:_SHOWN_KEYS])}, ... ({len(found)} in all)"
