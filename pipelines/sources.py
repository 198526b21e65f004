"""Where LoRAs come from: facts about one before any work starts, and the adapter itself once a model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from composer import spectrum
from lora_zoo import header
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


class AdapterSource(Protocol):
    """A provider of LoRAs. An unknown name or a bad file is a typed error."""

    def describe(self, name: str) -> AdapterInfo: ...
    def load(self, name: str, layout: Layout) -> Adapter: ...


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
        training = _training(path, entry.sha256)
        return AdapterInfo(name, entry.sha256, family, entry.weight, entry.triggers, path, measured, version, training)

    def load(self, name: str, layout: Layout) -> Adapter:
        return self._library.read(self._library.find(name), layout)


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
