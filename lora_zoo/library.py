"""The LoRAs that can be asked for: those that come with the project, those of scanned folders, and any file by path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lora_zoo import hashes, profiles
from lora_zoo.catalog import Catalog, Entry
from lora_zoo.errors import BadFile, UnknownLora, UnknownName, ZooError
from lora_zoo.foreign.text import escaped
from lora_zoo.index import scan
from lora_zoo.index.rows import Row
from lora_zoo.index.scan import OnFile, Report
from lora_zoo.index.store import Store, default_path
from lora_zoo.names import Named, Names
from lora_zoo.profiles import Profile

if TYPE_CHECKING:
    from lora_zoo.adapter import Adapter, Layout

#: Digits by which a LoRA can be asked for: AutoV2 has 10, AutoV3 has 12, some tools cut to 8.
SHORTEST_HASH = 8
_SHOWN = 3
_WEIGHTED = re.compile(r"([\w.-]{1,100}?)\s*[,;=@*|]\s*(-?\d{0,3}(?:\.\d{1,9})?)")


class AmbiguousName(ZooError):
    """A name or hash that several different LoRAs go by."""

    def __init__(self, name: str, candidates: Sequence[str]) -> None:
        listed = ", ".join(map(escaped, candidates[:_SHOWN]))
        more = f" and {len(candidates) - _SHOWN} more" if len(candidates) > _SHOWN else ""
        super().__init__(
            f"{len(candidates)} different LoRAs are called {name!r}; ask for one of them as {listed}{more}"
        )


class Library:
    """The embedded catalogue and scanned folders as one. A name means one content, or is an error."""

    def __init__(self, catalog: Catalog | None = None, store: Store | None = None, roots: Sequence[Path] = ()) -> None:
        self.catalog = catalog or Catalog.load()
        self._store = store
        self._roots = tuple(root.expanduser().absolute() for root in roots)

    @classmethod
    def scanned(cls, zoos: Sequence[Path], on_file: OnFile | None = None) -> tuple[Library, tuple[Report, ...]]:
        """Return the library with these folders, brought up to date, and what was found on the way."""
        if not zoos:
            return cls(), ()
        store = Store(default_path())
        reports = tuple(scan.scan(store, zoo, on_file) for zoo in zoos)
        return cls(None, store, zoos), reports

    @cached_property
    def names(self) -> Names:
        """What all are called, read from the index once."""
        return Names(self.catalog.entries, self._store.names(self._roots) if self._store else ())

    def rows(self) -> list[Row]:
        """Return the rows of the scanned folders, refused files included."""
        return list(self._rows)

    def entries(self) -> tuple[Entry, ...]:
        """Return all LoRAs that can be used."""
        return (*self.catalog.entries, *_entries(self._rows))

    def path(self, entry: Entry) -> Path:
        return self.catalog.path(entry)

    def find(self, asked: str) -> Entry:
        """Return the LoRA of this name, or of this path below a scanned folder, of this hash or in this file.

        What a file's metadata calls it counts where nothing has the name itself. A file that has changed since its
        folder was scanned is read again.
        """
        shipped = [entry for entry in self.catalog.entries if entry.name == asked]
        rows = self.names.called(asked) or ([] if shipped else self.names.aliased(asked))
        usable = [row for row in rows if row.sha256 is not None]
        contents = {row.sha256 for row in usable} | {entry.sha256 for entry in shipped}
        if len(contents) > 1:
            handles = self.names.handles
            files = [*(entry.file for entry in shipped), *(row.path for row in usable)]
            raise AmbiguousName(asked, list(dict.fromkeys(handles[file] for file in files)))
        if shipped:
            return shipped[0]
        if rows:
            return self._current(asked, usable or rows)
        entry = self.by_hash(asked.lower()) or self._by_path(asked)
        if entry is None:
            hint = "" if self._roots else " No folder of your own LoRAs is named: see --zoo, or MEDLEY_ZOO."
            raise UnknownLora(asked, self.names.handles.values(), _colon(asked) + hint)
        return entry

    def by_hash(self, digest: str) -> Entry | None:
        """Return the LoRA one of whose hashes begins with these digits; fewer than eight are no hash."""
        if len(digest) < SHORTEST_HASH or not hashes.is_hex(digest):
            return None
        found = [entry for entry in self.catalog.entries if entry.sha256.startswith(digest)]
        if self._store:
            found += _entries(self._store.hashed(digest, self._roots))
        if not found and len(digest) >= hashes.AUTOV3_DIGITS:
            short = digest[: hashes.AUTOV3_DIGITS]
            found = [entry for entry in self.catalog.entries if self._autov3(entry) == short]
            found += _entries(self._store.hashed(short, self._roots)) if self._store else []
        return self._only(digest, found)

    def handle(self, entry: Entry) -> str:
        """Return a name that `find` takes for this entry and no other: its own, one below its folder, or digits."""
        return self.names.handles.get(entry.file) or str(self.path(entry))

    def read(self, entry: Entry, layout: Layout, allow_partial: bool = False) -> Adapter:
        """Read an entry's LoRA for a model; see `formats.read` for files that can be read in part."""
        return self.catalog.read(entry, layout, allow_partial)

    def civitai_version(self, entry: Entry) -> int | None:
        """Return the number under which CivitAI has an entry's file, if a sidecar beside a copy of it says so."""
        rows = self._store.hashed(entry.sha256, self._roots) if self._store else []
        known = (row.facts.civitai_version for row in rows if row.facts is not None)
        return next((version for version in known if version is not None), None)

    def profile(self, entry: Entry) -> Profile | None:
        """Return a LoRA's frequency profile; None: its content was not measured."""
        known = profiles.load().get(entry.sha256)
        if known is not None or not (self._store or default_path().exists()):
            return known
        return (self._store or Store(default_path())).profile(entry.sha256)

    def keep_profile(self, entry: Entry, profile: Profile) -> None:
        """Keep a LoRA's frequency profile: beside the catalogue if it is of it, else in the index."""
        if any(one.sha256 == entry.sha256 for one in self.catalog.entries):
            own = {one.sha256 for one in self.catalog.entries}
            known = {digest: one for digest, one in profiles.load().items() if digest in own}
            profiles.save({**known, entry.sha256: profile})
        else:
            (self._store or Store(default_path())).put_profile(entry.sha256, profile)

    @cached_property
    def _rows(self) -> tuple[Row, ...]:
        return tuple(self._store.rows(self._roots)) if self._store else ()

    def _current(self, asked: str, rows: Sequence[Named]) -> Entry:
        """Return the LoRA of rows of one content, as the first of their files that is still there has it."""
        assert self._store is not None, "rows are of a store"
        for named in rows:
            row = scan.current(self._store, named.path, named.root, named.stamp)
            if row is None:
                continue
            entry = row.entry()
            if entry is None:
                raise BadFile(f"LoRA {asked!r} cannot be used: {row.file}: {row.error}")
            return entry
        raise BadFile(f"LoRA {asked!r}: its file is not there any more")

    def _by_path(self, asked: str) -> Entry | None:
        try:
            return self.catalog.resolve(asked)
        except UnknownName:
            return None

    def _autov3(self, entry: Entry) -> str | None:
        try:
            return hashes.autov3(self.path(entry))
        except (ZooError, OSError):
            return None  # a file that is gone or damaged matches no hash; it is refused when it is asked for

    def _only(self, asked: str, found: Sequence[Entry]) -> Entry | None:
        """Return the one content among entries; copies of a file are one."""
        if len({entry.sha256 for entry in found}) > 1:
            raise AmbiguousName(asked, list(dict.fromkeys(map(self.handle, found))))
        return found[0] if found else None


def _colon(asked: str) -> str:
    """Return a hint where a weight was written behind a name, by another sign than its own."""
    match = _WEIGHTED.fullmatch(asked)
    return f" A weight is written behind a colon: {match[1]}:{match[2]}." if match else ""


def _entries(rows: Iterable[Row]) -> list[Entry]:
    return [entry for entry in (row.entry() for row in rows) if entry is not None]
