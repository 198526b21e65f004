"""LoRAs from a page: through the same gate as any file, and into a folder of their own only if they pass."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from lora_zoo import fit, formats
from lora_zoo.errors import BadFile
from lora_zoo.fit import Fit
from lora_zoo.library import Library
from pipelines.engine import Engine
from ui.errors import NotAllowed, TooMuch

FOLDER = "loras"
_UNSAFE = re.compile(r"[^\w.-]+")
_SUFFIX = ".safetensors"


def admit(engine: Engine, file: Path, folder: Path, model: str, most: int) -> tuple[Path, Fit]:
    """Check a file that somebody sent, read it whole against a model, and only then keep it.

    Raises a typed error with the reason if it is no LoRA, does not fit, or is too large; nothing of it is kept then.
    """
    if file.suffix.lower() != _SUFFIX:
        raise NotAllowed(f"{file.name!r}: a LoRA file ends in {_SUFFIX}; pickles (.pt, .ckpt, .bin) are never opened")
    size = file.stat().st_size
    if size > most:
        raise TooMuch(f"{file.name!r} has {size >> 20} MB; this server takes files of up to {most >> 20} MB")
    try:
        described = formats.describe(file)
        loaded = engine.model(model)
        beside = fit.fit(file, loaded.layout)
        formats.read(file, loaded.layout, described.name)  # every tensor: finite, complete, of the right shape
    except BadFile as error:
        raise BadFile(str(error).replace(str(file), repr(file.name))) from error
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{safe(file.stem)}{_SUFFIX}"
    if place.exists():
        raise NotAllowed(f"there is a LoRA called {place.stem!r} already; rename the file")
    temporary = place.with_suffix(".part")
    shutil.copyfile(file, temporary)
    temporary.replace(place)
    return place, beside


def safe(stem: str) -> str:
    """Return a name for a file that is a name everywhere."""
    return _UNSAFE.sub("_", stem).strip("._")[:80] or "lora"


def library_of(zoos: tuple[Path, ...], data: Path) -> Library:
    """Return the embedded LoRAs, those of the folders, and those that were sent."""
    own = data / FOLDER
    own.mkdir(parents=True, exist_ok=True)
    return Library.scanned((*zoos, own))[0]
