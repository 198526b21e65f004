"""What a user asks for: one frozen, JSON-friendly request, the same for the command line, the UI and the evaluation.

`None` means "the default that belongs to somebody else": a size, step count, guidance or scheduler of None is the
model's own default, a weight of None is the one the catalogue prefers. The engine replaces every None before it works,
and the record of a picture holds the replaced values.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, Field, JsonValue, StringConstraints, ValidationError, model_validator

from composer.errors import BadRequest
from composer.frozen import Frozen, explain

TextPolicy = Literal["none", "first", "all", "per_lora"]
PromptSyntax = Literal["a1111", "comfyui", "plain"]
Choices = Literal["drawn", "text"]
PredictionType = Literal["epsilon", "v_prediction"]
#: How steps are spaced over the noise schedule; see section 3.3 of arXiv:2305.08891.
Spacing = Literal["leading", "trailing", "linspace"]
SPACINGS: tuple[Spacing, ...] = get_args(Spacing)
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

ANY_SEED = -1  # asks for a seed that is drawn, as in A1111
MAX_SEED = 2**64 - 1  # what torch's generators take, and other tools draw


def drawn(seed: int) -> int:
    """Return a seed as it is; for `ANY_SEED`, one that nobody chose."""
    return secrets.randbelow(2**32) if seed == ANY_SEED else seed


#: A seed of a request. One that is to be drawn is drawn as the request is made, so that every request, and with it
#: every record, holds the seed of its picture.
Seed = Annotated[int, Field(ge=ANY_SEED, le=MAX_SEED), AfterValidator(drawn)]
Prompt = Annotated[str, StringConstraints(max_length=100_000)]
Remark = Annotated[str, StringConstraints(max_length=1000)]
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=4096)]  # or a path, as long as one may be


class Region(Frozen):
    """A part of the picture: a box or a mask, and what is there."""

    box: tuple[float, float, float, float] | None = Field(
        default=None, description="Left, top, right, bottom as fractions of width and height."
    )
    mask: str | None = Field(
        default=None, description="Path of a picture, white inside and black outside; records hold it inline."
    )
    prompt: Prompt | None = Field(default=None, description="What is there; None: the request's prompt.")

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
        default=(),
        max_length=1000,
        description="Factors at positions, straight lines between them; up to 1 a part of the steps.",
    )

    @model_validator(mode="after")
    def _points_differ(self) -> Self:
        places = [at for at, _ in self.curve]
        if len(set(places)) < len(places):
            raise ValueError(f"a curve has one factor at each position; got {list(self.curve)}")
        return self

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        alike = self.stop is not None and (0 < self.start < 1) == (0 < self.stop < 1)  # steps, or parts of the way
        if alike and self.stop is not None and self.start >= self.stop:
            raise ValueError(
                f"it begins at {self.start:g} and ends before {self.stop:g}, so it acts in no step; "
                "START-STOP is the first step in which it acts, and the first in which it acts no longer"
            )
        return self


class AdapterUse(Frozen):
    """One LoRA in a request: which, and how strongly (1.0 = as trained)."""

    name: Name = Field(description="Name in the catalogue, or path of a .safetensors file.")
    weight: float | None = Field(
        default=None, ge=-100, le=100, description="Strength; None takes the catalogue's preferred weight."
    )
    text_encoder_weight: float | None = Field(
        default=None, ge=-100, le=100, description="Strength in the text encoder; None: as `weight`."
    )
    words: Annotated[tuple[Words, ...], Field(max_length=100)] | None = Field(
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
    adapters: tuple[AdapterUse, ...] = Field(default=(), max_length=256, description="The LoRAs, in order.")
    prompt: Prompt = ""
    negative_prompt: Prompt = ""
    undesired: Prompt = Field(default="", description="What the prompt's embedding is freed of.")
    undesired_strength: float = Field(default=1.0, ge=0.0, le=1.0, description="1 takes it out whole, 0 leaves it.")
    prompt_syntax: PromptSyntax = Field(
        default="a1111",
        description="Whether brackets, AND, BREAK and tags mean what they do in A1111; only ( ) does, as in ComfyUI; "
        "or all are text.",
    )
    choices: Choices = Field(
        default="drawn",
        description="Whether {a|b} and __NAME__ in A1111's prompts are drawn from the seed, or text. Records hold what "
        "was drawn, as text.",
    )
    width: int | None = Field(default=None, gt=0, le=8192)
    height: int | None = Field(default=None, gt=0, le=8192)
    num_inference_steps: int | None = Field(default=None, ge=1, le=1000)
    guidance_scale: float | None = Field(default=None, ge=1.0, le=100.0, description="1 switches guidance off.")
    guidance_rescale: float = Field(default=0.0, ge=0.0, le=1.0)
    scheduler: str | None = None
    spacing: Spacing | None = Field(
        default=None,
        description="How steps are spaced: only trailing begins with full noise at any number of steps, as models for "
        "few steps need; None takes what the model's files state.",
    )
    seed: Seed = Field(default=0, description="Of the noise; -1 draws one, which the record holds.")
    start: Start | None = Field(default=None, description="A picture to begin with; None: noise.")
    hires: Hires | None = Field(default=None, description="A second pass, larger; None: none.")
    original_size: SizeOf = Field(default="picture", description="Size before scaling, as SDXL is told it.")
    crop_corner: tuple[Corner, Corner] = Field(default=(0, 0), description="Left and top, as SDXL is told them.")
    target_size: SizeOf = Field(default="picture", description="Size aimed at, as SDXL is told it.")
    text_encoder_adapters: TextPolicy | None = Field(
        default=None, description="Whose text-encoder LoRA reads the prompt; None takes the method's default."
    )

    remarks: Annotated[tuple[Remark, ...], Field(max_length=100)] = Field(
        default=(), description="What its picture's record should tell; resolving fills it in."
    )

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        uses = Counter(use.name for use in self.adapters)
        twice = sorted(name for name, count in uses.items() if count > 1)
        if twice:
            raise ValueError(f"each LoRA may be named once; named more often: {', '.join(twice)}")
        return self


def parse_request(data: Mapping[str, object]) -> RenderRequest:
    """Build a request from plain data; what is wrong with it is told in one typed error."""
    try:
        return RenderRequest.model_validate(data)
    except ValidationError as error:
        raise BadRequest(explain(error, tuple(RenderRequest.model_fields), RenderRequest.model_fields)) from None
