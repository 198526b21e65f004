"""LoRAs from a page: through the same gate as any file, and into a folder of their own only if they pass."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from lora_zoo import fit, formats
from lora_zoo.adapter import Adapter, Layout
from lora_zoo.errors import BadFile
from lora_zoo.fit import Fit
from lora_zoo.header import header
from lora_zoo.library import Library
from pipelines.engine import Engine
from ui import room
from ui.errors import NotAllowed, TooMuch

FOLDER = "loras"
_UNSAFE = re.compile(r"[^\w.-]+")
_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Terms:
    """What a server takes."""

    most: int  # bytes of one file
    doubtful: bool = False  # whether the sender knows that the file is odd, and wants it all the same


def admit(engine: Engine, file: Path, folder: Path, model: str, terms: Terms) -> tuple[Path, Fit]:
    """Check a file that somebody sent, read it whole against a model, and only then keep it.

    Raises a typed error with the reason if it is no LoRA, does not fit, is too large, or is sound but looks damaged
    and the sender has not said to take it; nothing of it is kept then.
    """
    most = terms.most
    if file.suffix.lower() != _SUFFIX:
        raise NotAllowed(f"{file.name!r}: a LoRA file ends in {_SUFFIX}; pickles (.pt, .ckpt, .bin) are never opened")
    size = file.stat().st_size
    if size > most:
        raise TooMuch(f"{file.name!r} has {size >> 20} MB; this server takes files of up to {most >> 20} MB")
    try:
        described = formats.describe(file)
        loaded = engine.model(model)
        beside = fit.fit(file, loaded.layout)
        # every tensor: finite, complete, of the right shape
        adapter = formats.read(file, loaded.layout, described.name)
    except BadFile as error:
        raise BadFile(str(error).replace(str(file), repr(file.name))) from error
    doubts = _doubts(file, adapter, loaded.layout)
    if doubts and not terms.doubtful:
        raise NotAllowed(
            f"{file.name!r} {' and '.join(doubts)}; if it is meant so, tick 'Odd files too' and send it again"
        )
    folder.mkdir(parents=True, exist_ok=True)
    out = place(folder, file.stem, size)
    temporary = out.with_suffix(".part")
    shutil.copyfile(file, temporary)
    temporary.replace(out)
    return out, beside


def _doubts(file: Path, adapter: Adapter, layout: Layout) -> list[str]:
    """Return what is odd about a file that can be read: what a damaged one looks like, and a few that are meant so."""
    eight = sum(one.dtype.startswith("F8") for one in header(file).tensors.values())
    found = [f"holds {eight} tensors of 8 bits, which lose most of a LoRA's precision"] if eight else []
    for component, layers in adapter.layers.items():
        kinds = set(map(_kind, layers))
        alike = sum(_kind(path) in kinds for path in layout[component])
        if len(layers) < alike:
            found.append(
                f"changes {len(layers)} of the {alike} layers of its kinds ({component}), as if some were lost"
            )
    return found


def _kind(path: str) -> str:
    """Return what a layer is for, wherever in the model it lies."""
    return ".".join([part for part in path.split(".") if not part.isdecimal()][-2:])


def place(folder: Path, name: str, size: int = 0) -> Path:
    """Return where a LoRA of this name and of so many bytes is kept; a name that is taken, or no room, is an error."""
    if room.held(folder) + size > room.BOUNDS.loras:
        raise TooMuch(f"this server keeps {room.BOUNDS.loras >> 30} GB of LoRAs, and has no room for another")
    out = folder / f"{safe(name)}{_SUFFIX}"
    if out.exists():
        raise NotAllowed(f"there is a LoRA called {out.stem!r} already; choose another name")
    return out


def safe(stem: str) -> str:
    """Return a name for a file that is a name everywhere."""
    return _UNSAFE.sub("_", stem).strip("._")[:80] or "lora"


def library_of(zoos: tuple[Path, ...], own: Path) -> Library:
    """Return the embedded LoRAs, those of the folders, and those that were sent."""
    own.mkdir(parents=True, exist_ok=True)
    return Library.scanned((*zoos, own))[0]
