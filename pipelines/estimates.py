"""How long a rendering will take, from what renderings took on this machine; nothing is said before there is one.

Each finished rendering leaves how many seconds a GFLOP took, by the model's architecture, device and type, in a small
file of the cache folder. Small UNet calls reach fewer GFLOP in a second than large ones, so what is asked about is
compared with calls of about its size.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from pydantic import TypeAdapter, ValidationError

from lora_zoo.errors import ZooError
from lora_zoo.foreign import documents, files
from lora_zoo.index.store import default_path
from lora_zoo.storage import atomic
from pipelines.pricing import Cost
from pipelines.specs import ModelSpec

log = logging.getLogger(__name__)

_KEPT = 48  # measurements of a model on a device
_MODELS = 64  # of which some are kept
_ENOUGH = 3  # measurements of calls of about the same size
_NEAR = 4.0  # how many times larger or smaller that is
_LARGEST = 1 << 20  # bytes of the file


@dataclass(frozen=True)
class Place:
    """What a speed is of."""

    architecture: str  # digest of the configurations: checkpoints of one architecture are equally fast
    device: str
    dtype: str


@dataclass(frozen=True)
class Speed:
    """What one rendering took."""

    call: float  # GFLOP of a UNet call, on average
    seconds: float  # for each GFLOP


@dataclass(frozen=True)
class Measured:
    """What was measured at a place, the oldest first."""

    place: Place
    speeds: tuple[Speed, ...]


@dataclass(frozen=True)
class Estimate:
    """How long a rendering will take, once its model is loaded."""

    seconds: float
    device: str
    dtype: str
    of: int  # how many renderings it is taken from


_FILE = TypeAdapter(tuple[Measured, ...])


def default_file() -> Path:
    """Return the file in the cache folder."""
    return default_path().parent / "speeds.json"


def place_of(spec: ModelSpec, device: str, dtype: str) -> Place:
    """Return the place of a model on a device, in a type as torch names it without `torch.`."""
    return Place(_architecture(spec), device, dtype)


def learn(place: Place, cost: Cost, seconds: float, file: Path | None = None) -> None:
    """Keep what a rendering took. A file that cannot be read begins anew; one that cannot be written is logged.

    Two processes that write at the same time lose one measurement, and no more.
    """
    if not cost.unet_calls or not cost.gflop or not math.isfinite(seconds) or seconds <= 0:
        return
    file = file or default_file()
    known = {found.place: found.speeds for found in _read(file)}
    speeds = (*known.pop(place, ()), Speed(cost.gflop / cost.unet_calls, seconds / cost.gflop))
    known[place] = speeds[-_KEPT:]
    kept = [Measured(*one) for one in list(known.items())[-_MODELS:]]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(_FILE.dump_json(tuple(kept)), file)
    except OSError as error:
        log.info("what this rendering took cannot be kept in %s: %s", file, error)


def estimate(spec: ModelSpec, cost: Cost, dtype: str = "auto", file: Path | None = None) -> Estimate | None:
    """Return how long a rendering will take, by the device that was used last; None: not yet measured here."""
    architecture = _architecture(spec)
    found = [
        one
        for one in _read(file or default_file())
        if one.place.architecture == architecture and dtype in ("auto", one.place.dtype)
    ]
    if not found or not cost.unet_calls:
        return None
    last = found[-1]
    call = cost.gflop / cost.unet_calls
    alike = [one for one in last.speeds if abs(math.log(one.call / call)) <= math.log(_NEAR)]
    used = alike if len(alike) >= _ENOUGH else list(last.speeds)
    pace = median(one.seconds for one in used)
    return Estimate(cost.gflop * pace, last.place.device, last.place.dtype, len(used))


def told(found: Estimate | None) -> str:
    """Return an estimate in words."""
    if found is None:
        return "time not yet measured here"
    return f"about {duration(found.seconds)}"


def duration(seconds: float) -> str:
    """Return a time as a person would say it."""
    if seconds < 9.95:
        return f"{max(seconds, 0.1):.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.0f} h"


def machine_memory() -> int:
    """Return the bytes of memory that this machine has; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not on Windows
        return 0


def amount(size: float) -> str:
    """Return a number of bytes as a person would say it."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _architecture(spec: ModelSpec) -> str:
    parts: Mapping[str, object] = {"unet": dict(spec.configs.unet), "vae": dict(spec.configs.vae)}
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _read(file: Path) -> tuple[Measured, ...]:
    """Return what was measured; nothing if there is no file, or one that is not ours."""
    if not file.exists():
        return ()
    try:
        source = files.read(file, _LARGEST)
        found = _FILE.validate_python(documents.json_value(source, file.name, strict=True))
    except (ZooError, ValidationError, OSError) as error:
        log.info("what was measured before cannot be read and begins anew: %s", error)
        return ()
    speeds = [speed for one in found for speed in one.speeds]
    if not all(speed.call > 0 and speed.seconds > 0 for speed in speeds) or not all(one.speeds for one in found):
        log.info("what was measured before holds no speeds and begins anew")
        return ()
    return found
