"""The zoo's catalogue: the LoRAs and models that come with the project, by name; facts about a LoRA live here."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lora_zoo import fields, formats
from lora_zoo.errors import BadFile, UnknownLora
from lora_zoo.foreign import files
from lora_zoo.storage import atomic

if TYPE_CHECKING:
    from lora_zoo.adapter import Adapter, Layout

HOME = Path(__file__).parent
DEFAULT = HOME / "catalog.json"
_MOST_BYTES = 4 << 20


@dataclass(frozen=True)
class Entry:
    """One LoRA: what a listing shows, and what an engine must know before it loads the file."""

    name: str
    file: str  # relative to the catalogue's folder; a LoRA file, or a PEFT folder
    sha256: str  # as `describe` gives it
    category: str
    family: str
    triggers: tuple[str, ...]
    weight: float  # preferred
    rank: int  # the greatest of its layers
    alpha: float  # the greatest of its layers
    dialect: str
    components: tuple[str, ...]
    licence: str
    title: str
    thumbnail: str | None  # a picture, relative to the catalogue's folder


@dataclass(frozen=True)
class Model:
    """A model that comes with the project, as a folder in diffusers' layout."""

    name: str
    path: Path
    family: str


@dataclass(frozen=True)
class Catalog:
    """The entries of one catalogue file, and the folder that their paths start from."""

    folder: Path
    entries: tuple[Entry, ...]

    @classmethod
    def load(cls, path: Path = DEFAULT) -> Catalog:
        """Read a catalogue. No file is an empty catalogue: a zoo before its first LoRA is trained."""
        if not path.exists():
            return cls(path.parent, ())
        where = str(path)
        listed = fields.parse_object(files.read(path, _MOST_BYTES), where).get("loras")
        entries = tuple(_entry(item, f"{where}: loras") for item in fields.as_list(listed, f"{where}: loras"))
        _refuse_duplicates(entries, where)
        return cls(path.parent, entries)

    def names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.entries)

    def get(self, name: str) -> Entry:
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise UnknownLora(name, self.names())

    def path(self, entry: Entry) -> Path:
        return self.folder / entry.file

    def thumbnail(self, entry: Entry) -> Path | None:
        return None if entry.thumbnail is None else self.folder / entry.thumbnail

    def resolve(self, name_or_path: str | Path) -> Entry:
        """Return the entry of that name; or, for a path to a LoRA file, an entry made from the file's own head."""
        if isinstance(name_or_path, str) and name_or_path in self.names():
            return self.get(name_or_path)
        path = Path(name_or_path)
        looks_like_a_path = len(path.parts) > 1 or path.suffix == ".safetensors"
        if isinstance(name_or_path, str) and not looks_like_a_path and not os.path.exists(path):
            return self.get(name_or_path)
        return entry_for(path)

    def read(self, entry: Entry, layout: Layout, allow_partial: bool = False) -> Adapter:
        """Read an entry's LoRA for a model, refusing a file that is not the one the entry describes."""
        from lora_zoo.adapter import partial_digest

        adapter = formats.read(self.path(entry), layout, entry.name, allow_partial)
        if adapter.digest != (partial_digest(entry.sha256) if allow_partial else entry.sha256):
            raise BadFile(
                f"LoRA {entry.name!r}: its file is not the one listed: sha256 is {adapter.digest}, not {entry.sha256}"
            )
        return adapter


def entry_for(path: Path) -> Entry:
    """Describe a LoRA file as an entry without a category. Its path is made absolute, so any catalogue can open it."""
    info = formats.describe(path)
    return Entry(
        name=info.name,
        file=str(path.absolute()),
        sha256=info.sha256,
        category="",
        family=info.family,
        triggers=info.triggers,
        weight=info.weight,
        rank=info.ranks[1] if info.ranks else 0,
        alpha=info.alphas[1] if info.alphas else 0.0,
        dialect=info.dialect,
        components=info.components,
        licence=info.licence,
        title=info.title,
        thumbnail=None,
    )


def write_catalog(entries: Iterable[Entry], path: Path = DEFAULT) -> None:
    """Write a catalogue whole or not at all: a reader never sees half of it."""
    listed = tuple(entries)
    _refuse_duplicates(listed, str(path))
    text = json.dumps({"loras": [dataclasses.asdict(entry) for entry in listed]}, indent=1, ensure_ascii=False)
    atomic.write_text(f"{text}\n", path)


def models() -> tuple[Model, ...]:
    """Return the models that come with the project."""
    return (Model("tiny", HOME / "files" / "tiny", "tiny"),)


def _refuse_duplicates(entries: Iterable[Entry], where: str) -> None:
    names = [entry.name for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadFile(f"{where}: several LoRAs are named {', '.join(twice)}")


def _entry(value: object, where: str) -> Entry:
    stated = fields.as_object(value, where)
    where = f"{where}: {stated.get('name', 'an entry without a name')}"
    wrong = {field.name for field in dataclasses.fields(Entry)} ^ set(stated)
    if wrong:
        raise BadFile(f"{where}: missing or unknown fields: {', '.join(sorted(wrong))}")
    texts = {
        name: stated[name] for name in ("name", "file", "sha256", "category", "family", "dialect", "licence", "title")
    }
    checked = {name: fields.text(value, f"{where} {name}") for name, value in texts.items()}
    thumbnail = stated["thumbnail"]
    return Entry(
        **checked,
        triggers=fields.texts(stated["triggers"], f"{where} triggers"),
        weight=fields.number(stated["weight"], f"{where} weight"),
        rank=fields.count(stated["rank"], f"{where} rank"),
        alpha=fields.number(stated["alpha"], f"{where} alpha"),
        components=fields.texts(stated["components"], f"{where} components"),
        thumbnail=None if thumbnail is None else fields.text(thumbnail, f"{where} thumbnail"),
    )
