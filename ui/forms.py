"""From what stands in a page's fields to requests, and back. Everything a browser sends is checked here first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from composer import registry
from composer.errors import BadRequest
from composer.registry import Parameter
from composer.request import AdapterUse, RenderRequest, explain, parse_request
from pipelines.wildcards import expand

_MOST_PICTURES = 10_000


class Chosen(BaseModel):
    """One LoRA of the list, as the page keeps it."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    name: str
    weight: float | None = None
    text_encoder_weight: float | None = None
    box: tuple[float, float, float, float] | None = None
    region_prompt: str | None = None  # what is in the box; None: the whole prompt

    def use(self, placed: bool) -> dict[str, object]:
        there = {"box": self.box, "prompt": self.region_prompt or None}
        region = {"region": there} if placed and self.box is not None else {}
        return {"name": self.name, "weight": self.weight, "text_encoder_weight": self.text_encoder_weight, **region}


class Draft(BaseModel):
    """The fields of the page. None: left to the model's defaults."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    chosen: list[Chosen] = []
    prompt: str = ""
    negative_prompt: str = ""
    method: str = "merge"
    parameters: dict[str, JsonValue] = {}
    model: str = "tiny"
    scheduler: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    width: int | None = None
    height: int | None = None
    seed: int = Field(default=0, ge=0, lt=2**63)
    random: bool = False
    count: int = Field(default=1, ge=1, le=_MOST_PICTURES)

    @classmethod
    def of(cls, values: Sequence[Any]) -> Self:
        """Read the values of the page's fields, in the order of this model's."""
        stated = dict(zip(cls.model_fields, values, strict=True))
        form = stated.get("parameters")
        stated["parameters"] = form.get("values", {}) if isinstance(form, Mapping) else {}
        kept = {key: value for key, value in stated.items() if value is not None and value != ""}
        try:
            return cls.model_validate(kept)
        except ValidationError as error:
            raise BadRequest(explain(error, tuple(cls.model_fields))) from error

    @classmethod
    def from_request(cls, request: RenderRequest, count: int = 1) -> Self:
        """Return the fields that ask for this request."""
        stated = request.model_dump(include=set(cls.model_fields))
        chosen = [_chosen(use) for use in request.adapters]
        return cls.model_validate({**stated, "chosen": chosen, "count": count})

    def request(self, seed: int | None = None) -> RenderRequest:
        """Return the request for one picture; choices in its prompts are drawn from its seed."""
        seed = self.seed if seed is None else seed
        placed = registry.get(self.method).uses_regions
        data = self.model_dump(include=set(RenderRequest.model_fields))
        texts = {key: expand(data[key], seed, None) for key in ("prompt", "negative_prompt")}
        known = {one.name for one in registry.describe(self.method).parameters}
        parameters = {key: value for key, value in self.parameters.items() if value is not None and key in known}
        uses = [one.use(placed) for one in self.chosen]
        return parse_request({**data, **texts, "seed": seed, "parameters": parameters, "adapters": uses})

    def requests(self) -> list[RenderRequest]:
        """Return one request per picture; seeds count up from the first."""
        return [self.request(self.seed + offset) for offset in range(self.count)]


def _chosen(use: AdapterUse) -> dict[str, object]:
    there = {} if use.region is None else {"box": use.region.box, "region_prompt": use.region.prompt}
    return {"name": use.name, "weight": use.weight, "text_encoder_weight": use.text_encoder_weight, **there}


def lost(request: RenderRequest) -> list[str]:
    """Tell what of a request the page has no field for, one remark each."""
    plain = (
        "undesired",
        "guidance_rescale",
        "original_size",
        "crop_corner",
        "target_size",
        "prompt_syntax",
        "start",
        "hires",
    )
    stated = [name for name in plain if getattr(request, name) != RenderRequest.model_fields[name].default]
    if request.text_encoder_adapters not in (None, registry.get(request.method).text_policy):
        stated.append("text_encoder_adapters")
    found = [f"{name.replace('_', ' ')}: the page has no field for it; the default is used" for name in stated]
    for use in request.adapters:
        if use.blocks is not None or use.schedule is not None:
            found.append(f"LoRA {use.name!r}: the page has no fields for weights by block or over the steps")
        if use.region is not None and use.region.mask is not None:
            found.append(f"LoRA {use.name!r}: the page keeps boxes, not painted masks; it acts everywhere")
    return found


def listed(chosen: Sequence[Chosen], cards: Sequence[JsonValue]) -> list[JsonValue]:
    """Return the list of chosen LoRAs as the page keeps it, with what their cards say."""
    by_handle = {str(card["handle"]): card for card in cards if isinstance(card, dict)}
    found: list[JsonValue] = []
    for one in chosen:
        card = by_handle.get(one.name, {})
        weight = card.get("weight", 1.0)
        found.append(
            {
                **one.model_dump(mode="json"),
                "weight": weight if one.weight is None else one.weight,
                "label": card.get("name", one.name),
                "triggers": card.get("triggers", []),
                "preferred": weight,
                "range": card.get("range"),
            }
        )
    return found


def controls(method: str, values: Mapping[str, JsonValue] | None = None) -> JsonValue:
    """Return a method's parameters as the form shows them: read from its schema, whatever it is."""
    return controls_of(registry.describe(method).parameters, values)


def controls_of(parameters: Sequence[Parameter], values: Mapping[str, JsonValue] | None = None) -> JsonValue:
    """Return parameters as the form shows them, with those of the values that belong to them."""
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
    known = {str(field["name"]): field["default"] for field in fields if isinstance(field, dict)}
    given = {key: value for key, value in (values or {}).items() if key in known}
    return {"fields": fields, "values": {**known, **given}, "empty": "This method has no settings."}
