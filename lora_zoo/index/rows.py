"""One row of the index: a LoRA below a scanned folder, or a file that could not be read and the reason."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lora_zoo import hashes, header
from lora_zoo.catalog import Entry
from lora_zoo.describe import describe
from lora_zoo.errors import ZooError
from lora_zoo.foreign.text import escaped
from lora_zoo.hashes import LoraHashes
from lora_zoo.header import Header
from lora_zoo.index import sidecars
from lora_zoo.index.walk import Candidate, stamp_of
from lora_zoo.sources import locate

_LONGEST = 2000  # characters of a metadata entry that are kept; tag lists can have megabytes, and stay in the file
_KEPT = ("ss_", "sshs_", "modelspec.", "medley.")
_TRIES = 2  # of reading a file that somebody is writing


@dataclass(frozen=True)
class Facts:
    """What is known of a LoRA that could be read: its file's own head, and the sidecars beside it."""

    hashes: LoraHashes
    alias: str  # `ss_output_name`, by which A1111 knows it too
    title: str
    family: str
    kind: str
    dialect: str
    components: tuple[str, ...]
    modules: int
    rank: int  # the greatest of its layers
    alpha: float
    triggers: tuple[str, ...]
    weight: float  # preferred
    weight_range: tuple[float, float] | None
    licence: str
    description: str
    preview: str | None  # a picture beside the file
    thumbnail: bool  # there is one in the file's metadata
    metadata: Mapping[str, str]
    civitai_version: int | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A file, or PEFT folder, of a scanned folder."""

    path: str  # absolute; bytes that are not UTF-8 as Python's file functions have them
    root: str  # the scanned folder
    name: str  # what people call it: its file's name without the ending, accents as `spelled` writes them, shown whole
    stamp: str  # "": read it again at the next scan
    beside_stamp: str
    size: int
    inode: str
    error: str = ""  # why it cannot be used; then there are no facts
    facts: Facts | None = field(default=None)

    @property
    def relative(self) -> str:
        """Return the path below the scanned folder, without the ending: a name that tells duplicates apart."""
        return below(self.path, self.root, self.name)

    @property
    def file(self) -> str:
        """Return the file, or folder, below the scanned folder, fit to be shown anywhere."""
        path = Path(self.path)
        return escaped(path.name if path == Path(self.root) else path.relative_to(self.root).as_posix())

    def entry(self) -> Entry | None:
        """Return the row as the catalogue has its entries; None for a file that cannot be used."""
        facts = self.facts
        if facts is None:
            return None
        return Entry(
            name=self.name,
            file=self.path,
            sha256=facts.hashes.sha256,
            category="",
            family=facts.family,
            triggers=facts.triggers,
            weight=facts.weight,
            rank=facts.rank,
            alpha=facts.alpha,
            dialect=facts.dialect,
            components=facts.components,
            licence=facts.licence,
            title=facts.title,
            thumbnail=facts.preview,
        )


def spelled(name: str) -> str:
    """Return a name in the one form in which names are compared: systems write the same letter as one sign or two."""
    return unicodedata.normalize("NFC", name)


def below(path: str, root: str, name: str) -> str:
    """Return where a LoRA of this name lies below a scanned folder; of one that is the folder itself, its path."""
    found = Path(path)
    inside = found if found == Path(root) else found.relative_to(root)
    above = inside.parent.as_posix()
    return escaped(spelled(name if above == "." else f"{above}/{name}"))


def examine(candidate: Candidate, root: Path, known: LoraHashes | None) -> Row | None:
    """Read a candidate, by its `known` hashes if its content has not changed; None: it has gone meanwhile."""
    if fault := candidate.fault or _unnameable(candidate.path):
        return _row(candidate, root, error=fault)
    stamp = candidate.stamp
    try:
        for _ in range(_TRIES):
            facts, refusal = _facts(candidate, root, known)
            after = stamp_of(candidate.path)
            if after == stamp:
                return _row(candidate, root, stamp, refusal, facts)
            stamp, known = after, None
    except FileNotFoundError:
        return None
    except OSError as error:  # out of reach now, perhaps not at the next scan
        return _row(candidate, root, error=error.strerror or str(error))
    return _row(candidate, root, error="the file changed while it was read")


def _unnameable(path: Path) -> str:
    """Say why no request, record or answer can name a file."""
    if escaped(str(path)) == str(path):
        return ""
    return (
        "its name, or that of a folder on the way to it, is not UTF-8, so no request or record can name it; rename it"
    )


def _row(candidate: Candidate, root: Path, stamp: str = "", error: str = "", facts: Facts | None = None) -> Row:
    path = candidate.path
    folder = candidate.path.suffix == "" or path.is_dir()
    return Row(
        path=str(path),
        root=str(root),
        name=escaped(spelled(path.name if folder else path.stem)),
        stamp=stamp,
        beside_stamp=candidate.beside_stamp,
        size=candidate.size,
        inode=candidate.inode,
        error=error,
        facts=facts,
    )


def _facts(candidate: Candidate, root: Path, known: LoraHashes | None) -> tuple[Facts | None, str]:
    """Return what a candidate is, or the reason why it cannot be used."""
    try:
        return _read(candidate, root, known), ""
    except ZooError as error:
        if isinstance(error.__cause__, OSError):  # no fault of the file's: out of reach, or gone
            raise error.__cause__ from None
        return None, _reason(error, candidate.path)


def _read(candidate: Candidate, root: Path, known: LoraHashes | None) -> Facts:
    info = describe(candidate.path, "")  # before hashing: what is no LoRA need not be read whole
    source = locate(candidate.path)
    head = header.of_weights(source.parts[0].weights)
    beside = sidecars.read(candidate.beside, root)
    picture, others = sidecars.preview(candidate.beside, root)
    kept, cut = _metadata(head)
    return Facts(
        hashes=known or hashes.of_lora(source, head),
        alias=head.metadata.get("ss_output_name", ""),
        title=info.title,
        family=beside.family if info.family == "unknown" and beside.family else info.family,
        kind=info.kind,
        dialect=info.dialect,
        components=info.components,
        modules=info.modules,
        rank=info.ranks[1] if info.ranks else 0,
        alpha=info.alphas[1] if info.alphas else 0.0,
        triggers=beside.triggers or info.triggers,
        weight=info.weight if beside.weight is None else beside.weight,
        weight_range=beside.weight_range,
        licence=info.licence,
        description=(beside.description or head.metadata.get("modelspec.description", ""))[:_LONGEST],
        preview=None if picture is None else str(picture),
        thumbnail=info.thumbnail,
        metadata=kept,
        civitai_version=beside.civitai_version,
        notes=(*beside.notes, *others, *cut),
    )


def _metadata(head: Header) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the entries worth showing, and a note on those too long to keep."""
    stated = {key: value for key, value in head.metadata.items() if key.startswith(_KEPT)}
    long = [key for key, value in stated.items() if len(value) > _LONGEST]
    notes = (f"not kept for their length, see `inspect`: {', '.join(long)}",) if long else ()
    return {key: value for key, value in stated.items() if key not in long}, notes


def _reason(error: ZooError, path: Path) -> str:
    """Return a refusal without the path, which the row has, fit to be shown anywhere."""
    return escaped(str(error).removeprefix(f"{path}: "))
