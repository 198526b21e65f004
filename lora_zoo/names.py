"""What LoRAs are called: names, aliases, paths below a folder and digests, each looked up without reading the index.

A file's own name goes before an alias, which is a name that the file's metadata states: anybody may state any.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from lora_zoo.catalog import Entry
from lora_zoo.index.rows import below, spelled

_DIGITS = 10  # of a sha256, as AutoV2 has


class Named(NamedTuple):
    """A row of the index, as far as names go."""

    path: str
    root: str
    name: str
    stamp: str
    error: str
    alias: str | None
    sha256: str | None  # None: the file cannot be used

    @property
    def relative(self) -> str:
        """Return the path below the scanned folder, without the ending: a name that tells namesakes apart."""
        return below(self.path, self.root, self.name)


class Names:
    """The names of a catalogue's LoRAs and of those of scanned folders, as they were at one moment."""

    def __init__(self, shipped: Sequence[Entry], rows: Iterable[Named]) -> None:
        self._shipped = shipped
        self._rows = {row.path: row for row in rows}
        self._by_name: Mapping[str, list[Named]] = _grouped((row.name, row) for row in self._rows.values())
        self._by_alias = _grouped((row.alias, row) for row in self._rows.values() if row.alias)

    def called(self, asked: str) -> list[Named]:
        """Return the rows of this name, or of this path below a scanned folder."""
        path = spelled(asked.replace("\\", "/"))
        last = path.rpartition("/")[2]
        rows = self._by_name.get(last, [])
        return rows if last == path else [row for row in rows if row.relative == path]

    def aliased(self, asked: str) -> list[Named]:
        """Return the rows whose files state this name."""
        return self._by_alias.get(spelled(asked), [])

    @cached_property
    def handles(self) -> Mapping[str, str]:
        """The name to ask for each LoRA by and no other, by its file: its own, its path below its folder, or digits."""
        entries = [(one.name, one.sha256, one.file, "") for one in self._shipped]
        entries += [(row.name, row.sha256, row.path, row.relative) for row in self._rows.values() if row.sha256]
        contents: dict[str, set[str]] = defaultdict(set)
        for name, sha256, _, relative in entries:
            for known_by in {name, relative} - {""}:
                contents[known_by].add(sha256)
        return {file: self._handle(contents, (name, relative), sha256) for name, sha256, file, relative in entries}

    def _handle(self, contents: Mapping[str, set[str]], names: tuple[str, str], sha256: str) -> str:
        for name in names:
            if contents.get(name) == {sha256} and name == spelled(name.replace("\\", "/")):
                return name
        short = sha256[:_DIGITS]
        taken = short in contents or short in self._by_alias or self._shared(short)
        return sha256 if taken else short

    def _shared(self, digits: str) -> bool:
        digests = {one.sha256 for one in self._shipped} | {row.sha256 or "" for row in self._rows.values()}
        return sum(one.startswith(digits) for one in digests) > 1


def _grouped(pairs: Iterable[tuple[str, Named]]) -> dict[str, list[Named]]:
    found: dict[str, list[Named]] = defaultdict(list)
    for key, row in pairs:
        found[key].append(row)
    return dict(found)
