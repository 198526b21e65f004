"""Axes: a job is repeated for every value of a field, on up to three axes, and its pictures make one labelled grid."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from composer.errors import UnknownChoice
from composer.request import RenderRequest
from pipelines.cli_flags import parse_lora
from pipelines.jobs.errors import BadJobs
from pipelines.jobs.sources import Draft, number_or_text

NAMES = ("x", "y", "z")
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")
_MOST = 1000  # values of one axis
_OWN = ("weight", "weight:LORA", "text_encoder_weight", "text_encoder_weight:LORA", "set:PARAMETER", "loras", "replace")
_WEIGHTS = ("weight", "text_encoder_weight")


@dataclass(frozen=True)
class Axis:
    """A field and the values it takes."""

    name: str  # x: columns, y: rows, z: sheets
    field: str
    values: tuple[object, ...]

    def label(self, value: object) -> str:
        return f"{self.field} {value}" if value != "" else f"no {self.field}"


@dataclass(frozen=True)
class Placed:
    """A job of a grid, and the positions of its values on the axes."""

    draft: Draft
    place: tuple[int, ...]


def parse(name: str, text: str) -> Axis:
    """Read FIELD=V1,V2,…; A..B counts whole numbers; values that hold commas are quoted as in CSV."""
    field, equals, listed = text.partition("=")
    if not equals or not listed:
        raise BadJobs(f"--{name} {text!r}: write FIELD=V1,V2, for example --{name} seed=1..4")
    words = next(csv.reader([listed], skipinitialspace=True))
    values = [value for word in words for value in _values(word)]
    return checked(name, field, values)


def checked(name: str, field: str, values: Sequence[object]) -> Axis:
    """Return an axis whose name, field and values are sound; what a value means to a request is checked later."""
    if name not in NAMES:
        raise UnknownChoice("axis", name, NAMES)
    known = [key for key in RenderRequest.model_fields if key not in ("adapters", "parameters")]
    head = field.split(":", 1)[0]
    alone = head in (*known, *_WEIGHTS, "loras", "replace") and (field == head or head in _WEIGHTS)
    if not alone and not (head == "set" and len(field) > len("set:")):
        raise UnknownChoice(f"field of axis {name}", field, (*known, *_OWN))
    if not 1 <= len(values) <= _MOST:
        raise BadJobs(f"axis {name} has {len(values)} values; 1 to {_MOST} are allowed")
    if len({repr(value) for value in values}) < len(values):
        raise BadJobs(f"axis {name} names a value twice: {', '.join(map(str, values))}")
    return Axis(name, field, tuple(values))


def expand(draft: Draft, axes: Sequence[Axis]) -> Iterator[Placed]:
    """Yield the job once for every combination of values, x fastest."""
    ranges = [range(len(axis.values)) for axis in reversed(axes)]
    for backwards in product(*ranges):
        place = tuple(reversed(backwards))
        data: Mapping[str, object] = draft.data
        for axis, index in zip(axes, place, strict=True):
            data = _changed(data, axis, axis.values[index], draft.where)
        yield Placed(Draft(draft.where, data), place)


def _values(word: str) -> list[object]:
    span = _RANGE.fullmatch(word.strip())
    if span is None:
        return [number_or_text(word)]
    low, high = int(span[1]), int(span[2])
    if not 0 <= high - low < _MOST:
        raise BadJobs(f"the range {word} holds {high - low + 1} values; 1 to {_MOST} are allowed")
    return list(range(low, high + 1))


def _changed(data: Mapping[str, object], axis: Axis, value: object, where: str) -> Mapping[str, object]:
    head, _, rest = axis.field.partition(":")
    if head == "replace":
        return {**data, "prompt": _replaced(data, str(axis.values[0]), str(value), where)}
    if head == "loras":
        names = [one for one in str(value).split("+") if one]
        return {**data, "adapters": [parse_lora(one) for one in names]}
    if head == "set":
        before = data.get("parameters", {})
        return {**data, "parameters": {**(before if isinstance(before, dict) else {}), rest: value}}
    if head in _WEIGHTS:
        return {**data, "adapters": _weighted(data, head, rest, value, where)}
    return {**data, head: value}


def _replaced(data: Mapping[str, object], wanted: str, value: str, where: str) -> str:
    """Put a value where the axis' first value stands in the prompt, as A1111's "Prompt S/R" does."""
    prompt = str(data.get("prompt", ""))
    if wanted not in prompt:
        raise BadJobs(f"{where}: axis replace: {wanted!r} is not in the prompt {prompt!r}")
    return prompt.replace(wanted, value)


def _weighted(data: Mapping[str, object], key: str, name: str, value: object, where: str) -> list[object]:
    adapters = data.get("adapters")
    uses = [dict(one) for one in adapters if isinstance(one, dict)] if isinstance(adapters, list) else []
    names = [str(use.get("name")) for use in uses]
    if not uses or (name and name not in names):
        raise UnknownChoice(f"LoRA of an axis in {where}", name or key, names)
    return [{**use, key: value} if name in ("", use.get("name")) else use for use in uses]
