"""Where LoRAs come from: facts about one before any work starts, and the adapter itself once a model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from composer import spectrum
from composer.errors import BadRequest
from composer.request import AdapterUse
from lora_zoo import header
from lora_zoo.catalog import Entry
from lora_zoo.errors import ZooError
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
    training: Mapping[str, str] = field(default_factory=dict[str, str])  # what its file says of how it was trained


#: What kohya's scripts and the ModelSpec say of the noise schedule that a LoRA was trained with.
ZERO_SNR, PREDICTION = "ss_zero_terminal_snr", "modelspec.prediction_type"


@runtime_checkable
class ByContent(Protocol):
    """A source that finds LoRAs by their sha256 too."""

    def named(self, sha256: str) -> str | None:
        """Return a name of this content, None if it is not here."""
        ...


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
    """The catalogue, scanned folders, and any file by its path.

    What was described is what is loaded, whatever is found under its name later.
    """

    def __init__(self, library: Library | None = None) -> None:
        self._library = library or Library()
        self._described: dict[str, Entry] = {}

    def describe(self, name: str) -> AdapterInfo:
        entry = self._described[name] = self._library.find(name)
        family = None if entry.family in _UNKNOWN else entry.family
        rings, path = self._library.profile(entry), self._library.path(entry)
        measured = None if rings is None else spectrum.frequency(rings)
        version = self._library.civitai_version(entry)
        training = _training(path, entry.sha256)
        return AdapterInfo(name, entry.sha256, family, entry.weight, entry.triggers, path, measured, version, training)

    def named(self, sha256: str) -> str | None:
        entry = self._library.by_hash(sha256)
        return None if entry is None else self._library.handle(entry)

    def load(self, name: str, layout: Layout) -> Adapter:
        return self._library.read(self._entry(name), layout)

    def load_partial(self, name: str, layout: Layout) -> Adapter:
        return self._library.read(self._entry(name), layout, allow_partial=True)

    def _entry(self, name: str) -> Entry:
        return self._described.get(name) or self._library.find(name)


@lru_cache(maxsize=1024)
def _training(path: Path, _sha256: str) -> Mapping[str, str]:
    """Return what a file's head says of its training, read once for each content."""
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    try:
        stated = header.header(path).metadata
    except ZooError:
        return {}  # whoever loads it tells what is wrong with it
    return {key: stated[key] for key in (ZERO_SNR, PREDICTION) if key in stated}


def found_again(uses: tuple[AdapterUse, ...], source: AdapterSource) -> tuple[AdapterUse, ...]:
    """Return LoRAs of a record by names that they have here: where another file bears the name, or none, by content.

    Raises:
        BadRequest: A LoRA of this content is not here; how to give it is told.
    """
    return tuple(use if use.sha256 is None else _found_again(use, use.sha256, source) for use in uses)


def _found_again(use: AdapterUse, sha256: str, source: AdapterSource) -> AdapterUse:
    try:
        there = source.describe(use.name).sha256
        if there == sha256:
            return use
        wrong = f"LoRA '{use.name}' is not the file asked for: its sha256 is {there}, not {sha256}, which is not here"
    except ZooError as error:
        wrong = f"LoRA '{use.name}' with sha256 {sha256} is not here ({str(error).rstrip('.')})"
    name = source.named(sha256) if isinstance(source, ByContent) else None
    if name is None:
        raise BadRequest(f"{wrong}; give the folder that holds it with --zoo, or other LoRAs with --lora")
    return use.model_copy(update={"name": name})
