"""Empty arguments: an empty path would be the folder at hand, which nobody named; an empty text is a text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from composer.errors import BadRequest

#: What a help text calls a value that is a path. Where it may be a name as well, whoever reads it refuses an empty one.
_PATHS = re.compile(r"(?:DIR|FOLDER|FILE|IMAGE|OUT)(?:\.\w+)?(?:\.\.\.)?")


class Parameter(Protocol):
    """An option or argument of a command."""

    opts: list[str]
    metavar: str | None
    is_flag: bool


def check(command: object, arguments: Sequence[str]) -> None:
    """Refuse an empty argument where a path is expected, before any of the command is done.

    Args:
        command: What arguments are read by, with `params`, or with `commands` by their names.
        arguments: As typed.

    Raises:
        BadRequest: An option of a path is given an empty one, or an argument that belongs to no option is empty.
    """
    own = _own(command, arguments)
    options = {name: one for one in _parameters(own) for name in one.opts if name.startswith("-")}
    paths = {name for name, one in options.items() if _PATHS.fullmatch(one.metavar or "")}
    valued = {name for name, one in options.items() if not one.is_flag}
    before = ""
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in paths and equals and not value:
            raise BadRequest(f"{name}: the path is empty; name a folder or a file")
        if argument == "" and before in paths:
            raise BadRequest(f"{before}: the path is empty; name a folder or a file")
        if argument == "" and before not in valued:
            raise BadRequest("an argument is empty; if it was to be a folder or a file, name it")
        before = "" if before in valued else argument


def _own(command: object, arguments: Sequence[str]) -> object:
    """Return the command that the first arguments name, in groups of commands."""
    for argument in arguments:
        below: Mapping[str, object] = getattr(command, "commands", {})
        if argument not in below:
            return command
        command = below[argument]
    return command


def _parameters(command: object) -> Iterator[Parameter]:
    yield from (one for one in getattr(command, "params", ()) if hasattr(one, "is_flag"))
