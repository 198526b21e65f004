"""Axes: a job is repeated for every value of a field, on up to three axes, and its pictures make one labelled grid."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

from composer import registry
from composer.errors import UnknownChoice
from composer.request import ANY_SEED, RenderRequest
from lora_zoo.errors import ZooError
from lora_zoo.foreign.documents import json_or_text
from pipelines.jobs import keys
from pipelines.jobs.errors import BadJobs
from pipelines.jobs.seeds import Seeds
from pipelines.jobs.sources import Draft

NAMES = ("x", "y", "z")
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")
_MOST = 1000  # values of one axis
_METHOD = "method"
_WEIGHTS = ("weight", "text_encoder_weight")
_SHOWN = (*(f"{key}{of}" for key in _WEIGHTS for of in ("", ":LORA")), "set:PARAMETER", "loras", "replace")


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
    try:
        words = next(csv.reader([listed], skipinitialspace=True))
    except csv.Error as error:
        raise BadJobs(f"--{name} {keys.shown(text)}: {error}") from error
    values = [value for word in words for value in _values(word, f"--{name} {field}")]
    return checked(name, field, values)


def checked(name: str, field: str, values: Sequence[object]) -> Axis:
    """Return an axis whose name, field and values are sound; what a value means to a request is checked later."""
    if name not in NAMES:
        raise UnknownChoice("axis", name, NAMES)
    head, colon, rest = field.partition(":")
    head = keys.ALIASES.get(head.replace("-", "_"), head)
    known = [key for key in RenderRequest.model_fields if key not in ("adapters", "parameters")]
    if head == "parameters":
        head = "set"
    alone = head in (*known, *keys.PARTS, keys.SIZE, *_WEIGHTS, "loras", "replace") and (not colon or head in _WEIGHTS)
    if not alone and not (head == "set" and rest):
        raise UnknownChoice(f"field of axis {name}", field, (*known, *keys.PARTS, keys.SIZE, *_SHOWN))
    if not 1 <= len(values) <= _MOST:
        raise BadJobs(f"axis {name} has {len(values)} values; 1 to {_MOST} are allowed")
    told = [repr(value) for value in values if not _is_drawn(head, value)]
    if len(set(told)) < len(told):
        raise BadJobs(f"axis {name} names a value twice: {', '.join(map(str, values))}")
    if head == _METHOD:
        _check_methods(name, values)
    return Axis(name, f"{head}{colon}{rest}", tuple(values))


def settled(axes: Sequence[Axis], seeds: Seeds) -> list[Axis]:
    """Return axes with the seeds drawn that are to be; they are the same for all jobs, which are compared by them.

    Raises:
        BadJobs: Two axes are over the same field, where the last would decide and the others' labels be untrue.
    """
    _check_fields_differ(axes)
    return [
        replace(
            axis,
            values=tuple(
                seeds.drawn({"axis": axis.name}) if _is_drawn(axis.field, value) else value for value in axis.values
            ),
        )
        for axis in axes
    ]


def _check_fields_differ(axes: Sequence[Axis]) -> None:
    for later, axis in enumerate(axes):
        for other in axes[:later]:
            if shared := _shared(axis, other):
                raise BadJobs(f"axes {other.name} and {axis.name} both go over {shared}; leave one out")
            if _undoes(axis, other):
                raise BadJobs(
                    f"axis {axis.name} goes over {axis.field}, which undoes the {other.field} of axis {other.name}; "
                    f"exchange the two"
                )


def _shared(one: Axis, other: Axis) -> str:
    """Return the field that both axes set, "" if none: a size is both sides, and the weights of all hold each one's."""
    fields = {one.field, other.field}
    if len(fields) == 1 or (keys.SIZE in fields and fields & {"width", "height"}):
        return min(fields - {keys.SIZE}, default=keys.SIZE)
    return next((key for key in _WEIGHTS if key in fields and any(field.startswith(f"{key}:") for field in fields)), "")


def _undoes(later: Axis, earlier: Axis) -> bool:
    """Tell whether an axis puts something in the place of what an earlier one has changed a part of."""
    head = earlier.field.partition(":")[0]
    if later.field == "prompt":
        return head == "replace"
    alone = head == _METHOD and not all(_method(value)[2] for value in earlier.values)
    return later.field == keys.LORAS and (head in _WEIGHTS or alone)


def count(axes: Sequence[Axis]) -> int:
    """Return how many jobs one becomes."""
    return prod(len(axis.values) for axis in axes)


def check_parameters(draft: Draft, axes: Sequence[Axis]) -> None:
    """Refuse a parameter that none of the methods on an axis has; one that some have is given to these."""
    methods = [_method(value)[0] for axis in axes if axis.field == _METHOD for value in axis.values]
    if not methods:
        return
    stated = draft.data.get("parameters")
    asked = [*(stated if isinstance(stated, dict) else ()), *(_set(axis) for axis in axes if _set(axis))]
    known = list(dict.fromkeys(key for name in methods for key in registry.get(name).model_fields))
    for key in asked:
        if key not in known:
            raise UnknownChoice(f"parameter of {', '.join(dict.fromkeys(methods))} in {draft.where}", key, known)
    spelled = {key for axis in axes if axis.field == _METHOD for value in axis.values for key in _method(value)[1]}
    for axis in axes:
        if _set(axis) in spelled:
            raise BadJobs(
                f"parameter {_set(axis)!r} is on axis {axis.name} and with a method on another; leave one out"
            )


def expand(draft: Draft, axes: Sequence[Axis]) -> Iterator[Placed]:
    """Yield the job once for every combination of values, x fastest."""
    by_method = any(axis.field == _METHOD for axis in axes)
    ranges = [range(len(axis.values)) for axis in reversed(axes)]
    for backwards in product(*ranges):
        place = tuple(reversed(backwards))
        data: Mapping[str, object] = draft.data
        for axis, index in zip(axes, place, strict=True):
            data = _changed(data, axis, axis.values[index], draft.where)
        yield Placed(replace(draft, data=_fitting(data) if by_method else data), place)


def _values(word: str, where: str) -> list[object]:
    span = _RANGE.fullmatch(word.strip())
    if span is None:
        return [json_or_text(word, where, error=BadJobs)]
    low, high = int(span[1]), int(span[2])
    if not 0 <= high - low < _MOST:
        raise BadJobs(f"the range {word} holds {high - low + 1} values; 1 to {_MOST} are allowed")
    return list(range(low, high + 1))


def _is_drawn(field: str, value: object) -> bool:
    return field == "seed" and str(value) == str(ANY_SEED)


def _set(axis: Axis) -> str:
    """Return the parameter that an axis is over, if it is over one."""
    head, _, rest = axis.field.partition(":")
    return rest if head == "set" else ""


def _method(value: object) -> tuple[str, Mapping[str, object], bool]:
    """Return the method and the parameters that a value of an axis stands for, and whether LoRAs take part."""
    if value == registry.NAIVE:
        return "merge", {}, False
    return (*registry.parse(str(value)), True)


def _changed(data: Mapping[str, object], axis: Axis, value: object, where: str) -> Mapping[str, object]:
    head, _, rest = axis.field.partition(":")
    if head == _METHOD:
        return _by_method(data, value)
    if head == "replace":
        return {**data, "prompt": _replaced(data, str(axis.values[0]), str(value), where)}
    if head == "loras":
        return {**data, "adapters": keys.adapters_of(keys.pieces(str(value), "+;"), where)}
    if head == "set":
        return _with(data, {rest: value})
    if head in _WEIGHTS:
        return {**data, "adapters": _weighted(data, head, rest, value, where)}
    return {**data, **keys.translated({head: value}, where)}


def _check_methods(axis: str, values: Sequence[object]) -> None:
    for value in values:
        try:
            _method(value)
        except ZooError as error:
            raise BadJobs(f"axis {axis}: {error}") from error


def _by_method(data: Mapping[str, object], value: object) -> Mapping[str, object]:
    """Return a job by another method."""
    name, parameters, with_loras = _method(value)
    own = {"method": name} if with_loras else {"method": name, "adapters": []}
    return _with({**data, **own}, parameters)


def _with(data: Mapping[str, object], parameters: Mapping[str, object]) -> Mapping[str, object]:
    """Return a job with more parameters."""
    before = data.get("parameters", {})
    merged = {**(before if isinstance(before, dict) else {}), **parameters}
    return {**data, "parameters": merged} if merged else data


def _fitting(data: Mapping[str, object]) -> Mapping[str, object]:
    """Return a job with those of its parameters that its method has: they are meant for all methods on an axis."""
    stated = data.get("parameters")
    if not isinstance(stated, dict):
        return data
    fields = registry.get(str(data["method"])).model_fields
    return {**data, "parameters": {key: value for key, value in stated.items() if key in fields}}


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
