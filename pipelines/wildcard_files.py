"""A folder of values for `__NAME__`: NAME.txt files, one value per line, # before a comment.

A stranger may have made it: only regular files in the folder itself are read, each up to a limit and only if it is
asked for, and links to folders are not followed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from composer.errors import BadRequest
from lora_zoo.foreign import files

if TYPE_CHECKING:
    from dynamicprompts.wildcards import WildcardManager

_MOST_FILES = 100_000
_MOST_BYTES = 16 << 20  # of one file
_MOST_DRAWS = 1_000  # of wildcards in one text; those of values count too


class Folder:
    """The files of a folder of values. `readable` makes what stands on a line of one ready to be parsed."""

    def __init__(self, folder: Path, readable: Callable[[str, str], str]) -> None:
        if not folder.is_dir():
            raise BadRequest(f"--wildcards {files.shown(folder)}: there is no such folder")
        self._folder = folder
        self._readable = readable
        self._paths = dict(_named(folder))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._paths))

    def values(self, name: str) -> list[str]:
        """Return the values of a wildcard; a file that is none of values is an error."""
        path = self._paths[name]
        text = files.read_text(path, _MOST_BYTES, within=self._folder, error=BadRequest)
        lines = [line.strip() for line in text.splitlines()]
        return [self._readable(line, files.shown(path)) for line in lines if line and not line.startswith("#")]


def manager(folder: Folder | None) -> WildcardManager:
    """Return what dynamicprompts asks for values; it takes patterns of names, such as `colors/*`."""
    from dynamicprompts.wildcards import WildcardManager
    from dynamicprompts.wildcards.collection import WildcardCollection

    class Values(WildcardCollection):
        def __init__(self, name: str, folder: Folder) -> None:
            self._name, self._folder = name, folder

        def get_values(self) -> list[str]:
            return self._folder.values(self._name)

    class Counting(WildcardManager):
        count = 0

        def get_values(self, wildcard: str) -> Any:
            self.count += 1
            if self.count > _MOST_DRAWS:
                raise BadRequest(f"more than {_MOST_DRAWS:,} wildcards are drawn for one text, at __{wildcard[:80]}__")
            return super().get_values(wildcard)

    named: Any = {} if folder is None else {name: Values(name, folder) for name in folder.names}
    return Counting(root_map={"": [named]} if named else None)


def _named(folder: Path) -> Iterator[tuple[str, Path]]:
    count = 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        for name in sorted(names):
            count += 1
            if count > _MOST_FILES:
                raise BadRequest(f"--wildcards {files.shown(folder)}: more than {_MOST_FILES:,} files are in it")
            path = Path(place, name)
            if path.suffix == ".txt":
                yield path.relative_to(folder).with_suffix("").as_posix(), path
