"""From what stands in a page's fields to requests, and back. Everything a browser sends is checked here first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from composer import registry
from composer.errors import BadRequest
from composer.request import AdapterUse, Hires, RenderRequest, Seed, Start, explain, parse_request
from ui import more

_MOST_PICTURES = 10_000
#: Fields in which a number is typed, as the page calls them, and what a number is called that cannot be read.
_LABELS = {
    "num_inference_steps": "Steps",
    "guidance_scale": "Guidance",
    "width": "Width",
    "height": "Height",
    "seed": "Seed",
    "count": "Pictures",
}
_NUMBERS = {"int_parsing": "a whole number", "int_from_float": "a whole number", "float_parsing": "a number"}


class Chosen(BaseModel):
    """One LoRA of the list, as the page keeps it."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    name: str
    weight: float | None = None
    text_encoder_weight: float | None = None
    box: tuple[float, float, float, float] | None = None
    mask: str | None = None  # instead of a box: a picture, inline
    region_prompt: str | None = None  # what is in the box or the mask; None: the whole prompt
    blocks: str | None = None  # weights by block, as the command line takes them
    steps: str | None = None  # START-STOP
    curve: str | None = None  # WEIGHT@POSITION pairs

    def use(self, placed: bool) -> dict[str, object]:
        there = {"box": self.box, "mask": self.mask, "prompt": self.region_prompt or None}
        region = {"region": there} if placed and (self.box is not None or self.mask is not None) else {}
        return {
            "name": self.name,
            "weight": self.weight,
            "text_encoder_weight": self.text_encoder_weight,
            "blocks": self.blocks or None,
            "schedule": more.schedule_in(self.name, self.steps, self.curve),
            **region,
        }


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
    seed: Seed = 0
    random: bool = False
    count: int = Field(default=1, ge=1, le=_MOST_PICTURES)
    start: Start | None = None
    hires: Hires | None = None
    further: dict[str, JsonValue] = {}  # of more.FURTHER

    @classmethod
    def of(cls, values: Sequence[Any]) -> Self:
        """Read the values of the page's fields, in the order of this model's."""
        stated = dict(zip(cls.model_fields, values, strict=True))
        stated["parameters"] = more.values_in(stated["parameters"])
        stated["start"] = more.start_in(stated["start"])
        stated["hires"] = more.hires_in(stated["hires"])
        stated["further"] = more.further_in(stated["further"])
        kept = {key: value for key, value in stated.items() if value is not None and value != ""}
        try:
            return cls.model_validate(kept)
        except ValidationError as error:
            raise BadRequest(_mistake(error, tuple(cls.model_fields))) from error

    @classmethod
    def from_request(cls, request: RenderRequest, count: int = 1) -> Self:
        """Return the fields that ask for this request."""
        stated = request.model_dump(include=set(cls.model_fields))
        if request.start is not None:  # it is named or held whole: its digests are not needed
            stated["start"] = {**stated["start"], "sha256": None, "mask_sha256": None}
        further, chosen = more.further_of(request), [_chosen(use) for use in request.adapters]
        return cls.model_validate({**stated, "further": further, "chosen": chosen, "count": count})

    def request(self, seed: int | None = None, placed: bool = False) -> RenderRequest:
        """Return the request for one picture.

        Boxes and masks are part of it if its method looks at them, or if `placed`.
        """
        seed = self.seed if seed is None else seed
        placed = placed or registry.get(self.method).uses_regions
        data = self.model_dump(include=set(RenderRequest.model_fields))
        known = {one.name for one in registry.describe(self.method).parameters}
        parameters = {key: value for key, value in self.parameters.items() if value is not None and key in known}
        uses = [one.use(placed) for one in self.chosen]
        asked = {**data, "seed": seed, "parameters": parameters, "adapters": uses}
        return parse_request({**asked, **{key: self.further[key] for key in more.FURTHER if key in self.further}})

    def requests(self) -> list[RenderRequest]:
        """Return one request per picture; seeds count up from the first."""
        return [self.request(self.seed + offset) for offset in range(self.count)]


def _mistake(error: ValidationError, known: tuple[str, ...]) -> str:
    """Return what is wrong with the fields, in the words of the page where a number cannot be read."""
    found = [(_LABELS.get(str(one["loc"][0])), _NUMBERS.get(one["type"]), one["input"]) for one in error.errors()]
    if not all(label and kind for label, kind, _ in found):
        return explain(error, known)
    return "; ".join(f"{label}: {kind} is needed, or nothing, not {value!r}" for label, kind, value in found)


def _chosen(use: AdapterUse) -> dict[str, object]:
    region = use.region
    there = {} if region is None else {"box": region.box, "mask": region.mask, "region_prompt": region.prompt}
    return {
        "name": use.name,
        "weight": use.weight,
        "text_encoder_weight": use.text_encoder_weight,
        "blocks": more.blocks_text(use.blocks),
        "steps": more.steps_text(use.schedule),
        "curve": more.curve_text(use.schedule),
        **there,
    }


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
    return more.controls(registry.describe(method).parameters, values or {})
