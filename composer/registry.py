"""Methods by name. A method registers itself with `@method(...)`; front ends are generated from what is found here."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import ClassVar, TypeVar

from pydantic import JsonValue, ValidationError

from composer.errors import BadParameter, BadRequest, UnknownChoice
from composer.plan import Capability, Job, Plan
from composer.request import Frozen, TextPolicy, explain
from lora_zoo.foreign.documents import json_or_text


class MethodModel(Frozen):
    """What every method extends: its fields are its parameters, with ranges and help."""

    min_adapters: ClassVar[int] = 1
    text_policy: ClassVar[TextPolicy] = "all"
    needs: ClassVar[frozenset[Capability]] = frozenset()  # checked against the model before any work
    _mistake: ClassVar[type[BadRequest]] = BadParameter
    needs_words: ClassVar[bool] = False  # the prompt must hold words of every LoRA
    uses_regions: ClassVar[bool] = False  # whether it looks at where a LoRA belongs; if not, such a request is refused

    def check(self, job: Job) -> None:
        """Raise what this method, with these parameters, cannot do for a job; before any work."""
        return

    def texts(self, job: Job) -> tuple[str, ...]:
        """Return the texts that `start` wants to see in `job.texts`, as the text encoder without LoRAs reads them.

        In a dry run they are not there; what a plan costs must not depend on them.
        """
        return ()

    @abstractmethod
    def start(self, job: Job) -> Plan:
        """Return the plan of one request. Pure: the same job gives an equal plan."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method, as a front end needs it."""

    name: str
    kind: str  # "integer", "number", "boolean", "string"
    default: JsonValue
    description: str
    choices: tuple[JsonValue, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True)
class MethodInfo:
    """A registered method, described."""

    name: str
    title: str
    summary: str
    min_adapters: int
    text_policy: TextPolicy
    parameters: tuple[Parameter, ...]


@dataclass(frozen=True)
class _Entry:
    title: str
    model: type[MethodModel]


#: Stands for the prompt alone, without a LoRA, where methods are compared.
NAIVE = "naive"

_entries: dict[str, _Entry] = {}
_M = TypeVar("_M", bound=MethodModel)
_F = TypeVar("_F", bound=Frozen)


def method(name: str, title: str) -> Callable[[type[_M]], type[_M]]:
    """Register a method under a name that no other has; the same class defined once more takes its own place."""

    def register(model: type[_M]) -> type[_M]:
        if name in _entries and not redefined(_entries[name].model, model):
            raise ValueError(f"two methods are called '{name}': {_entries[name].model.__name__} and {model.__name__}")
        _entries[name] = _Entry(title, model)
        return model

    return register


def redefined(before: object, now: object) -> bool:
    """Tell whether a class or function is another, defined once more: a notebook's cell that was run again."""
    keys = ("__module__", "__qualname__")
    return all(getattr(before, key, None) == getattr(now, key, None) is not None for key in keys)


def names() -> tuple[str, ...]:
    """Return the names of all methods, sorted."""
    return tuple(sorted(_all()))


def get(name: str) -> type[MethodModel]:
    """Return a method's class; an unknown name is an error that tells the nearest one."""
    entries = _all()
    if name not in entries:
        raise UnknownChoice("method", name, sorted(entries))
    return entries[name].model


def create(name: str, parameters: Mapping[str, JsonValue]) -> MethodModel:
    """Return a method with its parameters checked."""
    return checked(get(name), name, parameters)


def parse(text: str) -> tuple[str, dict[str, JsonValue]]:
    """Read NAME[:KEY=VALUE]…, a method with parameters; a wrong name or parameter is told at once."""
    name, *settings = text.split(":")
    parameters: dict[str, JsonValue] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise BadRequest(f"method {text!r}: write NAME:KEY=VALUE, for example switch:interval=1")
        parameters[key] = json_or_text(value, f"method {text!r}: {key}", error=BadParameter)
    create(name, parameters)
    return name, parameters


def checked(model: type[_F], name: str, parameters: Mapping[str, JsonValue]) -> _F:
    """Return a model of parameters filled in; what is wrong with them is told in one typed error."""
    try:
        return model.model_validate(dict(parameters))
    except ValidationError as error:
        raise BadParameter(
            f"method '{name}': {explain(error, tuple(model.model_fields), model.model_fields)}"
        ) from None


def describe(name: str) -> MethodInfo:
    """Return what a front end shows of a method, its parameters read from its fields."""
    model = get(name)
    parameters, title = parameters_of(model), _all()[name].title
    return MethodInfo(name, title, summary_of(model), model.min_adapters, model.text_policy, parameters)


def parameters_of(model: type[Frozen]) -> tuple[Parameter, ...]:
    """Return a model's fields as parameters."""
    fields = model.model_json_schema().get("properties", {})
    return tuple(_parameter(key, field) for key, field in fields.items())


def summary_of(model: type[Frozen]) -> str:
    """Return the first line of what a model says of itself; nothing if it says nothing."""
    return (model.__doc__ or "").strip().partition("\n")[0]


def _parameter(name: str, stated: dict[str, JsonValue]) -> Parameter:
    field = _given(stated)
    choices, low, high = field.get("enum"), field.get("minimum"), field.get("maximum")
    return Parameter(
        name=name,
        kind=str(field.get("type", "string")),
        default=field.get("default"),
        description=str(field.get("description", "")),
        choices=tuple(choices) if isinstance(choices, list) else (),
        minimum=float(low) if isinstance(low, int | float) else None,
        maximum=float(high) if isinstance(high, int | float) else None,
    )


def _given(field: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return what a field that may be None says of its other values, if these are of one kind."""
    ways = field.get("anyOf")
    others = (
        [one for one in ways if isinstance(one, dict) and one.get("type") != "null"] if isinstance(ways, list) else []
    )
    return {**field, **others[0]} if len(others) == 1 else field


def _all() -> dict[str, _Entry]:
    import_module("composer.methods")  # registers the built-in ones, once; here, so that no caller can forget it
    return _entries
