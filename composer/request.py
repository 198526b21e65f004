"""What a user asks for: one frozen, JSON-friendly request, the same for the command line, the UI and the evaluation.

`None` means "the default that belongs to somebody else": a size, step count, guidance or scheduler of None is the
model's own default, a weight of None is the one the catalogue prefers. The engine replaces every None before it works,
and the record of a picture holds the replaced values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    model_validator,
)

from composer.errors import BadRequest
from lora_zoo.errors import nearest

TextPolicy = Literal["none", "first", "all", "per_lora"]
PromptSyntax = Literal["a1111", "plain"]
PredictionType = Literal["epsilon", "v_prediction"]
Side = Annotated[int, Field(gt=0, le=16384)]
Corner = Annotated[int, Field(ge=0, le=16384)]
#: Width and height in pixels, or whatever the picture's own are.
SizeOf = Literal["picture"] | tuple[Side, Side]
TEXT_POLICIES: tuple[TextPolicy, ...] = get_args(TextPolicy)

Weight = Annotated[float, Field(ge=-100, le=100)]
#: Block -> weight; or weights in the order of the model's blocks; or a preset's name, or either as text.
BlockWeights = dict[str, Weight] | tuple[Weight, ...] | str
#: Of a curve: a position among the steps (up to 1, a part of them), and the factor there.
Point = tuple[Annotated[float, Field(ge=0, le=1000)], Weight]

Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Frozen(BaseModel):
    """A value: never changed after it is made, refusing unknown keys and non-finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Region(Frozen):
    """A part of the picture: a box or a mask, and what is there."""

    box: tuple[float, float, float, float] | None = Field(
        default=None, description="Left, top, right, bottom as fractions of width and height."
    )
    mask: str | None = Field(
        default=None, description="Path of a picture, white inside and black outside; records hold it inline."
    )
    prompt: str | None = Field(default=None, description="What is there; None: the request's prompt.")

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if (self.box is None) == (self.mask is None):
            raise ValueError("a region is either a box or a mask; give one of them")
        if self.box is not None:
            left, top, right, bottom = self.box
            if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
                raise ValueError(f"a box is left < right and top < bottom, all from 0 to 1; got {list(self.box)}")
        return self


class Schedule(Frozen):
    """In which steps a LoRA acts in the UNet, and how strongly; see composer/over_steps.py."""

    start: float = Field(
        default=0.0, ge=0, le=1000, description="First step in which it acts, from 0; between 0 and 1, a part of them."
    )
    stop: float | None = Field(
        default=None, gt=0, le=1000, description="First step in which it acts no longer; None: it acts to the end."
    )
    curve: tuple[Point, ...] = Field(
        default=(), description="Factors at positions, straight lines between them; up to 1 a part of the steps."
    )

    @model_validator(mode="after")
    def _points_differ(self) -> Self:
        places = [at for at, _ in self.curve]
        if len(set(places)) < len(places):
            raise ValueError(f"a curve has one factor at each position; got {list(self.curve)}")
        return self


class AdapterUse(Frozen):
    """One LoRA in a request: which, and how strongly (1.0 = as trained)."""

    name: str = Field(min_length=1, description="Name in the catalogue, or path of a .safetensors file.")
    weight: float | None = Field(
        default=None, ge=-100, le=100, description="Strength; None takes the catalogue's preferred weight."
    )
    text_encoder_weight: float | None = Field(
        default=None, ge=-100, le=100, description="Strength in the text encoder; None: as `weight`."
    )
    words: tuple[Words, ...] | None = Field(
        default=None, description="Words of the prompt that belong to it; None: its trigger words that are there."
    )
    region: Region | None = Field(default=None, description="Where it belongs; None: everywhere.")
    frequency: float | None = Field(
        default=None, ge=-1, le=1, description="Share of fine detail in what it draws; None: as it was measured."
    )
    blocks: BlockWeights | None = Field(
        default=None, description="Weights by block of the UNet, times `weight`; see composer/blocks.py. None: all 1."
    )
    schedule: Schedule | None = Field(default=None, description="How strongly it acts in which steps; None: always.")
    sha256: str | None = Field(default=None, description="Refuse any other file content; records fill it in.")
    allow_partial: bool = Field(
        default=False, description="Use it without what cannot be read of its file, which notices then tell."
    )


class Start(Frozen):
    """A picture to begin with, and how much of it is painted anew."""

    image: str = Field(min_length=1, description="Path of a picture, or the picture inline as data:image/png;base64,…")
    strength: float = Field(
        default=0.75, ge=0.0, le=1.0, description="Share of the steps that are done: 0 keeps the picture, 1 hides it."
    )
    mask: str | None = Field(
        default=None, description="As `image`: white is painted anew, black stays; None: all is painted."
    )
    sha256: str | None = Field(default=None, description="Of the picture's pixels; refuse others. Records fill it in.")
    mask_sha256: str | None = Field(default=None, description="Of the mask's pixels, likewise.")


class Hires(Frozen):
    """A second pass over the finished picture, enlarged."""

    scale: float = Field(default=2.0, gt=1.0, le=8.0, description="How much wider and higher the picture becomes.")
    strength: float = Field(default=0.55, gt=0.0, le=1.0, description="Share of the steps that are done again.")
    num_inference_steps: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Steps of the second pass, of which `strength` is done; None: as before.",
    )
    upscaler: Literal["pixels", "latent"] = Field(
        default="pixels", description="What is enlarged: the picture (Lanczos), or its latents; these want strength."
    )


class RenderRequest(Frozen):
    """Everything that decides a picture."""

    model: str = Field(
        default="tiny",
        min_length=1,
        description="Name of a model; or a folder in diffusers' layout, a .safetensors file, a hub id.",
    )
    prediction_type: PredictionType | None = Field(
        default=None, description="What the model was trained to predict; None takes what its files state."
    )
    method: str = Field(default="merge", description="How the LoRAs are combined.")
    parameters: Mapping[str, JsonValue] = Field(default_factory=dict, description="The method's own parameters.")
    adapters: tuple[AdapterUse, ...] = Field(default=(), description="The LoRAs, in order.")
    prompt: str = ""
    negative_prompt: str = ""
    undesired: str = Field(default="", description="What the prompt's embedding is freed of.")
    undesired_strength: float = Field(default=1.0, ge=0.0, le=1.0, description="1 takes it out whole, 0 leaves it.")
    prompt_syntax: PromptSyntax = Field(
        default="a1111", description="Whether brackets, AND, BREAK and tags mean what they do in A1111, or are text."
    )
    width: int | None = Field(default=None, gt=0, le=8192)
    height: int | None = Field(default=None, gt=0, le=8192)
    num_inference_steps: int | None = Field(default=None, ge=1, le=1000)
    guidance_scale: float | None = Field(default=None, ge=1.0, le=100.0, description="1 switches guidance off.")
    guidance_rescale: float = Field(default=0.0, ge=0.0, le=1.0)
    scheduler: str | None = None
    seed: int = Field(default=0, ge=0, lt=2**63)
    start: Start | None = Field(default=None, description="A picture to begin with; None: noise.")
    hires: Hires | None = Field(default=None, description="A second pass, larger; None: none.")
    original_size: SizeOf = Field(default="picture", description="Size before scaling, as SDXL is told it.")
    crop_corner: tuple[Corner, Corner] = Field(default=(0, 0), description="Left and top, as SDXL is told them.")
    target_size: SizeOf = Field(default="picture", description="Size aimed at, as SDXL is told it.")
    text_encoder_adapters: TextPolicy | None = Field(
        default=None, description="Whose text-encoder LoRA reads the prompt; None takes the method's default."
    )

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [use.name for use in self.adapters]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"each LoRA may be named once; named more often: {', '.join(twice)}")
        return self


def parse_request(data: Mapping[str, object]) -> RenderRequest:
    """Build a request from plain data; what is wrong with it is told in one typed error."""
    try:
        return RenderRequest.model_validate(data)
    except ValidationError as error:
        raise BadRequest(explain(error, tuple(RenderRequest.model_fields))) from error


def explain(error: ValidationError, known: tuple[str, ...]) -> str:
    """Return pydantic's findings as one line each, with the nearest known key for an unknown one."""
    lines: list[str] = []
    for finding in error.errors():
        place = ".".join(str(part) for part in finding["loc"])
        if finding["type"] == "extra_forbidden" and len(finding["loc"]) == 1:
            lines.append(f"unknown key '{place}'{nearest(place, known)}")
            continue
        message = finding["msg"].removeprefix("Value error, ")
        value = "" if isinstance(finding["input"], dict | list | BaseModel) else f" (got {finding['input']!r})"
        lines.append(f"{place}: {message}{value}" if place else message)
    return "; ".join(lines)
