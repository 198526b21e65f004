"""Measuring the pictures of a run. What was found is kept: later, only what is new is looked at."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path

from pydantic import TypeAdapter

from eval import outputs, viewers
from eval.columns import TRUTH
from eval.errors import BadMetric, BadRun
from eval.metrics import registry
from eval.metrics.batch import Batch, Made, Shot, Tools, shown
from eval.metrics.registry import Found, Metric
from eval.running import Run
from eval.suites.model import Case, stable
from lora_zoo.foreign import files, pictures
from pipelines import images
from pipelines.jobs.entries import Entry
from pipelines.jobs.states import State

FOLDER = "measured"
UNKNOWN = "unknown"  # code of a picture whose record is older than the naming of code
_CODES = "codes.json"
_ANEW = "remove it, and what it held is found out anew"
_BY = "by its own activation: "  # what was measured with another one is not taken over
_TOGETHER = 128  # pictures measured at once

Told = Callable[[int], None]


@dataclass(frozen=True)
class Kept:
    """What a metric found in a picture, and the digest of its pixels."""

    pixels: str
    found: Found | None
    broken: tuple[str, ...] = ()  # measures that came out as no finite number: they are no figures


@dataclass(frozen=True)
class Row:
    """One picture with all that is known of it."""

    column: str
    case: Case
    file: str  # below the run's folder; "" for drawings
    values: Mapping[str, float]
    parts: Mapping[str, Mapping[str, float]]  # metric -> member or label -> value
    code: str = UNKNOWN  # that made it


@dataclass(frozen=True, eq=False)
class Measured:
    """A run's pictures, measured."""

    run: Run
    rows: tuple[Row, ...]
    missing: Mapping[str, int]  # column -> pictures that are not there
    metrics: tuple[str, ...]
    broken: Mapping[str, int] = field(default_factory=dict)  # measure -> pictures of which it gave no finite number


@dataclass
class _Memory:
    """What a metric found so far, in a file of its own."""

    path: Path
    known: dict[str, Kept] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run, metric: Metric) -> _Memory:
        own = metric.by in registry.CHOSEN and not (metric.by == "clip" and run.wish.clip in (None, viewers.EMBEDDED))
        name = f"{metric.name}-{stable(_BY + run.measured_by(metric.by)):016x}" if own else metric.name
        path = run.folder / FOLDER / f"{name}.json"
        return cls(path, outputs.read(dict[str, Kept], path, _ANEW) if path.is_file() else {})

    def save(self) -> None:
        data = TypeAdapter(dict[str, Kept]).dump_json(self.known)
        outputs.write_text(data.decode(), self.path)


def chosen(run: Run, names: Sequence[str]) -> list[Metric]:
    """Return the metrics named, or all usual ones that the run allows.

    Raises:
        UnknownChoice: There is no such metric.
        BadMetric: One that is named needs what the run does not have.
    """
    given: set[registry.Need] = {"references"} if run.wish.references else set()
    given |= {"dino"} if run.wish.dino else set()
    blind = viewers.lacks_clip(run.wish.clip, run.models)
    found = [registry.get(name) for name in dict.fromkeys(names)]
    for one in found:
        if lacking := one.lacks(run.suite, given):
            raise BadMetric(f"metric '{one.name}' needs {lacking}, which suite '{run.suite.name}' has not here")
        if one.by == "clip" and blind is not None:
            raise BadMetric(f"metric '{one.name}' needs {viewers.unnamed(blind)}")
    usual = [one for one in registry.every() if one.usual and one.lacks(run.suite, given) is None]
    return found or [one for one in usual if one.by != "clip" or blind is None]


def measure(
    run: Run, entries: Mapping[tuple[str, str], Entry], metrics: Sequence[Metric], tools: Tools, told: Told
) -> Measured:
    """Measure what is not measured yet; return everything that is known of the run's pictures."""
    places = list(_places(run, entries))
    memories = {one.name: _Memory.of(run, one) for one in metrics}
    try:
        for start in range(0, len(places), _TOGETHER):
            some = places[start : start + _TOGETHER]
            _look(some, metrics, memories, tools)
            told(len(some))
    finally:
        for memory in memories.values():
            memory.save()
    codes = _codes(run, places)
    rows = tuple(replace(_row(place, memories), code=codes.get(place.digest, UNKNOWN)) for place in places)
    asked = {column.label: len(run.cases) for column in run.columns}
    there = {label: sum(1 for row in rows if row.column == label) for label in asked}
    missing = {label: count - there[label] for label, count in asked.items() if count > there[label]}
    keys = {place.key for place in places}
    broken = Counter(
        name for memory in memories.values() for key in keys & memory.known.keys() for name in memory.known[key].broken
    )
    return Measured(run, rows, missing, tuple(one.name for one in metrics), dict(broken))


@dataclass(frozen=True)
class _Place:
    """A picture that can be had."""

    case: Case
    column: str
    pixels: str
    path: Path | None  # None: it is drawn
    entry: Entry | None
    file: str
    first: bool = False  # of the sets of its size, in any run of the suite

    @property
    def key(self) -> str:
        return f"{self.column} {self.case.name}"

    @property
    def digest(self) -> str:
        """The digest of its file; "" if it has none."""
        return self.entry.sha256 or "" if self.entry is not None else ""

    def shot(self) -> Shot:
        if self.path is None or self.entry is None:
            return Shot(self.case, self.column, shown(self.case))
        record = images.read_record(self.path)
        rgb = pictures.decoded(self.path, files.shown(self.path)).convert("RGB")
        made = Made(
            passes=record.unet_passes,
            shallow=record.shallow_passes,
            rows=record.unet_rows,
            seconds=self.entry.seconds,
            looks=record.looks,
            slopes=record.slopes,
        )
        return Shot(self.case, self.column, rgb, made, self.entry.request if self.first else None)


def _places(run: Run, entries: Mapping[tuple[str, str], Entry]) -> Iterator[_Place]:
    """Yield every picture that is there, all of a case together."""
    firsts = {case.name for case in run.suite.cases(1)}  # of each size one; any larger number of sets holds these
    for case in run.cases:
        if run.suite.drawn:
            yield _Place(case, TRUTH, "drawn", None, None, "")
        for column in run.columns:
            entry = entries.get((column.label, case.name))
            if entry is not None and entry.state is State.DONE:
                if Path(entry.file).name != entry.file:
                    raise BadRun(f"{run.pictures} names a picture outside itself, {entry.file!r}")
                file = f"{run.pictures.name}/{entry.file}"
                pixels = entry.pixels_sha256 or ""
                yield _Place(case, column.label, pixels, run.folder / file, entry, file, case.name in firsts)


def _look(some: Sequence[_Place], metrics: Sequence[Metric], memories: Mapping[str, _Memory], tools: Tools) -> None:
    """Measure some pictures; a picture is opened only if a metric has not seen it."""
    lacking = {one.name: [place for place in some if not _knows(memories[one.name], place)] for one in metrics}
    wanted = {place.key: place for places in lacking.values() for place in places}
    shots = {key: place.shot() for key, place in wanted.items()}
    batches: dict[tuple[str, ...], Batch] = {}
    for one in metrics:
        keys = tuple(place.key for place in lacking[one.name])
        if not keys:
            continue
        batch = batches.setdefault(keys, Batch([shots[key] for key in keys], tools))
        for key, found in zip(keys, one.answer(batch), strict=True):
            memories[one.name].known[key] = _kept(wanted[key].pixels, found)


def _kept(pixels: str, found: Found | None) -> Kept:
    """Return what is kept of an answer: no number that is not finite, which neither a mean nor a file can hold."""
    if found is None:
        return Kept(pixels, None)
    broken = tuple(name for name, value in found.values.items() if not isfinite(value))
    values = {name: value for name, value in found.values.items() if isfinite(value)}
    parts = {name: value for name, value in found.parts.items() if isfinite(value)}
    return Kept(pixels, Found(values, parts), broken)


def code_of(path: Path) -> str:
    """Return the code that made a picture, as its record says."""
    return images.read_record(path).versions.get("medley", UNKNOWN)


def _codes(run: Run, places: Sequence[_Place]) -> dict[str, str]:
    """Return the code that made each file, by the file's digest; each is opened for it once."""
    path = run.folder / FOLDER / _CODES
    known = outputs.read(dict[str, str], path, _ANEW) if path.is_file() else {}
    fresh = {one.digest: code_of(one.path) for one in places if one.path is not None and one.digest not in known}
    if fresh:
        outputs.write_text(json.dumps({**known, **fresh}), path)
    return {**known, **fresh}


def _knows(memory: _Memory, place: _Place) -> bool:
    kept = memory.known.get(place.key)
    return kept is not None and kept.pixels == place.pixels


def _row(place: _Place, memories: Mapping[str, _Memory]) -> Row:
    found = {name: memory.known[place.key].found for name, memory in memories.items()}
    answered = {name: one for name, one in found.items() if one is not None}
    values = {name: value for one in answered.values() for name, value in one.values.items()}
    return Row(place.column, place.case, place.file, values, {name: one.parts for name, one in answered.items()})
