"""What a page asks for beyond the first look: a picture to begin with, a second pass, and a request's finer settings.

Controls are made from the request's own schema, so that every field of a request has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from pydantic import JsonValue

from composer import over_steps, registry
from composer.errors import BadRequest
from composer.registry import Parameter
from composer.request import BlockWeights, Hires, RenderRequest, Schedule, Start
from lora_zoo.errors import ZooError
from pipelines import specs
from pipelines.wildcards import has_choices
from ui.held import INLINE

FURTHER = (
    "undesired",
    "undesired_strength",
    "guidance_rescale",
    "prompt_syntax",
    "choices",
    "prediction_type",
    "text_encoder_adapters",
    "original_size",
    "crop_corner",
    "target_size",
)
_SWITCH = Parameter("second_pass", "boolean", False, "Enlarge the picture, and go over it once more.")


def controls(parameters: Sequence[Parameter], values: Mapping[str, JsonValue]) -> JsonValue:
    """Return parameters as a form shows them, with the values given, else their defaults."""
    fields: list[JsonValue] = [
        {
            "name": one.name,
            "kind": one.kind,
            "default": one.default,
            "description": one.description,
            "choices": list(one.choices),
            "minimum": one.minimum,
            "maximum": one.maximum,
        }
        for one in parameters
    ]
    known = {one.name: one.default for one in parameters}
    given = {key: value for key, value in values.items() if key in known}
    return {"fields": fields, "values": {**known, **given}, "empty": "This method has no settings."}


def values_in(form: object) -> dict[str, JsonValue]:
    """Return what stands in a form, whatever a browser made of it; numbers left empty are left out."""
    values = form.get("values") if isinstance(form, Mapping) else None
    given = values if isinstance(values, Mapping) else {}
    return {str(key): value for key, value in given.items() if value is not None}


def second_pass(hires: Hires | None) -> JsonValue:
    """Return the form of the second pass."""
    given = {} if hires is None else hires.model_dump(mode="json")
    return controls([_SWITCH, *registry.parameters_of(Hires)], {**given, _SWITCH.name: hires is not None})


def hires_in(form: object) -> dict[str, JsonValue] | None:
    """Return what the form of the second pass asks for; None: no such pass."""
    given = values_in(form)
    return {key: given[key] for key in Hires.model_fields if key in given} if given.get(_SWITCH.name) else None


def further(values: Mapping[str, JsonValue]) -> JsonValue:
    """Return the form of a request's finer settings."""
    known = {one.name: one for one in registry.parameters_of(RenderRequest)}
    return controls([_optional(known[name]) for name in FURTHER], values)


def further_in(form: object) -> dict[str, JsonValue]:
    """Return the finer settings as they stand in their form, without those that are empty or the default anyway."""
    stated = {key: value for key, value in values_in(form).items() if key in FURTHER and value != ""}
    return _changed(stated)


def further_of(request: RenderRequest) -> dict[str, JsonValue]:
    """Return a request's finer settings, those left out that are the defaults anyway."""
    found = _changed(request.model_dump(mode="json", include=set(FURTHER)))
    own: dict[str, object] = {
        "text_encoder_adapters": registry.get(request.method).text_policy,
        "prediction_type": _predicted(request),
    }
    texts = (request.prompt, request.negative_prompt, request.undesired)
    if not any(map(has_choices, texts)):
        own["choices"] = "text"  # of nothing: what is typed next may be drawn
    return {key: value for key, value in found.items() if own.get(key) != value}


def _changed(settings: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the settings that are not a request's defaults."""
    defaults = {one.name: one.default for one in registry.parameters_of(RenderRequest)}
    return {key: value for key, value in settings.items() if value != defaults[key]}


def start_field(start: Start | None) -> JsonValue:
    """Return what the part for the picture to begin with shows."""
    if start is None:
        return {"image": None, "mask": None, "strength": Start.model_fields["strength"].default}
    return {"image": start.image, "mask": start.mask, "strength": start.strength}


def start_in(value: object) -> dict[str, JsonValue] | None:
    """Return the picture to begin with as it stands in its part; None: none is chosen."""
    given = value if isinstance(value, Mapping) else {}
    kept = {key: given.get(key) for key in ("image", "mask", "strength")}
    return {key: one for key, one in kept.items() if one is not None} if kept["image"] else None


def is_inline(text: str | None) -> bool:
    return text is None or text.startswith(INLINE)


def blocks_text(blocks: BlockWeights | None) -> str | None:
    """Return weights by block as a text that asks for the same; None: all are 1."""
    if blocks is None or isinstance(blocks, str):
        return blocks
    if isinstance(blocks, tuple):
        return ",".join(map(_number, blocks))
    return ",".join(f"{name}:{_number(weight)}" for name, weight in blocks.items() if weight != 1.0) or None


def steps_text(schedule: Schedule | None) -> str | None:
    """Return in which steps a LoRA acts, as START-STOP; None: in all."""
    if schedule is None or (not schedule.start and schedule.stop is None):
        return None
    return f"{_number(schedule.start)}-{'' if schedule.stop is None else _number(schedule.stop)}"


def curve_text(schedule: Schedule | None) -> str | None:
    """Return a curve over the steps, as WEIGHT@POSITION pairs; None: it has none."""
    points = () if schedule is None else schedule.curve
    return ",".join(f"{_number(weight)}@{_number(at)}" for at, weight in points) or None


def schedule_in(name: str, steps: str | None, curve: str | None) -> dict[str, object] | None:
    """Read in which steps a LoRA acts, and its curve; a mistake is told with the LoRA's name."""
    if not steps and not curve:
        return None
    try:
        when = over_steps.read(steps) if steps else Schedule()
        points = over_steps.read_curve(curve) if curve else when.curve
    except BadRequest as error:
        raise BadRequest(f"LoRA {name!r}: {error}") from error
    return {"start": when.start, "stop": when.stop, "curve": points}


def _predicted(request: RenderRequest) -> str | None:
    """Return what a request's model says that it predicts; None: it is not here to be asked."""
    try:
        return specs.find(request.model).configs.prediction
    except ZooError:
        return None


def _optional(one: Parameter) -> Parameter:
    """Return a parameter with the choice of leaving it open, if it may be; one of several kinds is read as JSON."""
    field = RenderRequest.model_fields[one.name]
    choices = (None, *one.choices) if one.choices and field.default is None else one.choices
    several = one.kind == "string" and not one.choices and field.annotation is not str
    return replace(one, choices=choices, kind="any" if several else one.kind)


def _number(value: float) -> str:
    """Return a number as it can be read back, exactly and without an exponent."""
    text = format(Decimal(repr(value)), "f")
    return text.removesuffix(".0")
