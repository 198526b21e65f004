"""Where LoRAs come from: facts about one before any work starts, and the adapter itself once a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from composer import spectrum
from composer.errors import BadRequest
from composer.request import AdapterUse
from lora_zoo.library import Library

if TYPE_CHECKING:
    from lora_zoo.adapter import Adapter, Layout

_UNKNOWN = ("", "unknown")


@dataclass(frozen=True)
class AdapterInfo:
    """What a request must know of a LoRA before its file is read."""

    name: str
    sha256: str
    family: str | None  # None: the file does not say
    weight: float  # preferred
    triggers: tuple[str, ...] = ()  # words that call for what it was trained on
    file: Path | None = None  # None: it is in none
    frequency: float | None = None  # how much of what it draws is fine detail; None: not measured
    civitai_version: int | None = None  # the number under which CivitAI has it


class AdapterSource(Protocol):
    """A provider of LoRAs. An unknown name or a bad file is a typed error."""

    def describe(self, name: str) -> AdapterInfo: ...
    def load(self, name: str, layout: Layout) -> Adapter: ...


@runtime_checkable
class PartialSource(Protocol):
    """A provider that can also read a file without its unreadable part."""

    def load_partial(self, name: str, layout: Layout) -> Adapter: ...


def loaded(source: AdapterSource, use: AdapterUse, layout: Layout) -> Adapter:
    """Return a LoRA as a request uses it: whole, or without what cannot be read of its file, if it allows that."""
    if not use.allow_partial:
        return source.load(use.name, layout)
    if not isinstance(source, PartialSource):
        raise BadRequest(f"LoRA '{use.name}': only files can be read in part (allow_partial)")
    return source.load_partial(use.name, layout)


def identity(use: AdapterUse) -> str:
    """Return the digest of what `loaded` gives for a resolved use."""
    from lora_zoo.adapter import partial_digest

    return partial_digest(use.sha256 or "") if use.allow_partial else use.sha256 or ""


class ZooSource:
    """The catalogue, scanned folders, and any file by its path."""

    def __init__(self, library: Library | None = None) -> None:
        self._library = library or Library()

    def describe(self, name: str) -> AdapterInfo:
        entry = self._library.find(name)
        family = None if entry.family in _UNKNOWN else entry.family
        rings, path = self._library.profile(entry), self._library.path(entry)
        measured = None if rings is None else spectrum.frequency(rings)
        version = self._library.civitai_version(entry)
        return AdapterInfo(name, entry.sha256, family, entry.weight, entry.triggers, path, measured, version)

    def load(self, name: str, layout: Layout) -> Adapter:
        return self._library.read(self._library.find(name), layout)

    def load_partial(self, name: str, layout: Layout) -> Adapter:
        return self._library.read(self._library.find(name), layout, allow_partial=True)
