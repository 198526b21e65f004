"""Jobs of several pictures that belong together: one scene by many methods, over two axes, or without each LoRA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from composer import registry
from composer.errors import BadRequest
from composer.request import AdapterUse, RenderRequest
from lora_zoo.errors import ZooError
from pipelines.jobs import axes, sources
from pipelines.jobs.axes import Axis
from pipelines.jobs.keys import request_of
from pipelines.jobs.seeds import Seeds
from pipelines.jobs.sources import Draft
from ui.discreet import said
from ui.errors import TooMuch
from ui.history import Asked
from ui.service import Service

WHOLE = "all LoRAs"
_OF_METHOD = ("parameters", "text_encoder_adapters")


@dataclass(frozen=True)
class Series:
    """A job to hand in, and what could not be part of it."""

    asked: Asked
    left_out: tuple[str, ...] = ()


def by_methods(service: Service, request: RenderRequest, methods: Sequence[str]) -> Series:
    """Return the same noise through several methods; one that cannot serve the request is left out, and told.

    Where LoRAs belong is told to those methods that look at it.
    """
    if len(methods) < 2:
        raise BadRequest("choose at least two methods to compare")
    found: dict[str, RenderRequest] = {}
    left_out: list[str] = []
    for method in methods:
        parameters = request.parameters if method == request.method else {}
        changed = {"method": method, "parameters": parameters, "text_encoder_adapters": None}
        one = _placed(request.model_copy(update=changed))
        try:
            found[method] = service.resolve([one])[0]
        except ZooError as error:
            left_out.append(f"{method}: {said(error)}")
    if not found:
        raise BadRequest("none of these methods can make this picture: " + "; ".join(left_out))
    titles = tuple(registry.describe(name).title for name in found)
    return Series(Asked(tuple(found.values()), "compare", request.prompt, labels=titles), tuple(left_out))


def by_axes(request: RenderRequest, x: tuple[str, str], y: tuple[str, str] | None, most: int) -> Series:
    """Return a request over one or two axes, each a field and its values as `--x FIELD=V1,V2` takes them."""
    named = [("x", *x), *([("y", *y)] if y is not None else [])]
    parsed = [axes.parse(name, f"{field}={values}") for name, field, values in named]
    count = axes.count(parsed)
    if count > most:
        raise TooMuch(f"these axes make {count} pictures; a job has at most {most} here")
    parsed = axes.settled(parsed, Seeds())
    data = request.model_dump(mode="json", exclude_none=True)
    own = {key: data.pop(key) for key in _OF_METHOD if key in data}
    placed = list(axes.expand(Draft("the grid", data), parsed))
    requests = tuple(_placed(_with_own(one.draft, own, request.method)) for one in placed)
    labels = tuple(_label(parsed, one.place) for one in placed)
    columns = tuple(parsed[0].label(value) for value in parsed[0].values)
    rows = tuple(parsed[1].label(value) for value in parsed[1].values) if len(parsed) > 1 else ()
    return Series(Asked(requests, "compare", request.prompt, labels=labels, columns=columns, rows=rows))


def without_each(request: RenderRequest) -> Series:
    """Return the request whole, without each of its LoRAs, and without all: the same noise, in one batch.

    The others keep their regions. One that has a region itself is left there at weight 0, so that the words that are
    read there stay, as the prompt's do: what changes is what the LoRA does.
    """
    uses = request.adapters
    if not uses:
        raise BadRequest("nothing to explain: choose LoRAs first")
    rests = [_without(uses, (out,)) for out in uses]
    if len(uses) > 1:
        rests.append(_without(uses, uses))
    requests = (request, *(_with(request, rest) for rest in rests))
    labels = (WHOLE, *(f"without {use.name}" for use in uses), *(["without any"] if len(uses) > 1 else []))
    return Series(Asked(requests, "explain", request.prompt, labels=labels))


def of_file(path: Path, limit: int) -> Asked:
    """Return the job that a file of jobs asks for, `count` and axes replaced."""
    read = sources.read(path)
    found: list[RenderRequest] = []
    over = [axes.checked(name, *next(iter(fields.items()))) for name, fields in read.axes.items()]
    count = axes.count(over) * sum(map(sources.count_of, read.drafts))
    if count > limit:
        raise TooMuch(f"{path.name} asks for {count:,} pictures, more than {limit}; split it, or use `batch`")
    seeds = Seeds()
    over = axes.settled(over, seeds)
    for draft in read.drafts:
        axes.check_parameters(draft, over)
        for one in sources.plain(draft, seeds):
            found += [request_of(cell.draft.data, cell.draft.where) for cell in axes.expand(one, over)]
    return Asked(tuple(found), "batch", path.name)


def _without(uses: Sequence[AdapterUse], out: Sequence[AdapterUse]) -> tuple[AdapterUse, ...]:
    off = {"weight": 0.0, "text_encoder_weight": 0.0}
    kept = [use for use in uses if use not in out or use.region is not None]
    return tuple(use.model_copy(update=off) if use in out else use for use in kept)


def _placed(request: RenderRequest) -> RenderRequest:
    """Return a request whose LoRAs have no regions if its method does not look at them."""
    if registry.get(request.method).uses_regions:
        return request
    uses = tuple(use.model_copy(update={"region": None}) for use in request.adapters)
    return request.model_copy(update={"adapters": uses})


def _with(request: RenderRequest, rest: tuple[object, ...]) -> RenderRequest:
    """Return the request with fewer LoRAs; a method that needs more than are left gives way to the plain model."""
    fields: dict[str, object] = {"adapters": rest}
    if len(rest) < registry.get(request.method).min_adapters:
        fields |= {"method": "merge", "parameters": {}}
    return request.model_copy(update=fields)


def _with_own(draft: Draft, own: Mapping[str, object], method: str) -> RenderRequest:
    """Return a cell's request; what belongs to the request's own method is given to no other."""
    data = dict(draft.data)
    if data.get("method") == method:
        parameters = {**_mapped(own.get("parameters")), **_mapped(data.get("parameters"))}
        data = {**own, **data, "parameters": parameters}
    return request_of(data, draft.where)


def _mapped(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _label(parsed: Sequence[Axis], place: Sequence[int]) -> str:
    return ", ".join(axis.label(axis.values[index]) for axis, index in zip(parsed, place, strict=True))
