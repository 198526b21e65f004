"""What a resolved request may not ask for: each check raises the user's mistake."""

from __future__ import annotations

from composer import registry
from composer.errors import BadRequest
from composer.plan import Job
from composer.prompting import schedule
from composer.prompting.staged import joins
from composer.registry import MethodModel
from composer.request import RenderRequest
from pipelines import schedulers
from pipelines.specs import ModelSpec

MOST_PIXELS = 8192  # of a side


def check_acts(job: Job) -> None:
    """Refuse a LoRA that is to act in no step of the first pass; a second one may be too short for it."""
    for use in job.adapters:
        if use.factors and not any(use.factors):
            raise BadRequest(f"LoRA '{use.name}': of {job.count} steps it acts in none, as its schedule says")


def check_joins(request: RenderRequest) -> None:
    if request.prompt_syntax != "a1111":
        return
    too_great = [part.weight for part in schedule.parse(request.prompt) if abs(part.weight) > schedule.MOST_WEIGHT]
    if too_great:
        most = schedule.MOST_WEIGHT
        raise BadRequest(f"AND weighs a prompt with {too_great[0]:g}; write a weight between {-most:g} and {most:g}")
    placed = [use.region for use in request.adapters if use.region is not None]
    if placed and any(joins(text) for text in (request.prompt, *(region.prompt or "" for region in placed))):
        raise BadRequest("prompts joined by AND, or weighted with it, have no regions: leave out AND, or the regions")
    if (request.guidance_scale or 1.0) <= 1.0 and joins(request.prompt):
        raise BadRequest("prompts joined by AND, or weighted with it, need guidance; give a guidance scale above 1")


def check_undesired(request: RenderRequest) -> None:
    if request.undesired_strength != 1.0 and not request.undesired:
        raise BadRequest(
            f"an undesired strength of {request.undesired_strength:g} belongs to undesired words, and there are none: "
            "say what the prompt is freed of, or leave the strength out"
        )


def check_size(request: RenderRequest, spec: ModelSpec) -> None:
    for side, value in (("width", request.width or 0), ("height", request.height or 0)):
        step = spec.latent_factor
        if value > MOST_PIXELS:
            raise BadRequest(f"{side} {value} is more than {MOST_PIXELS}, the greatest that is made")
        if value % step:
            near = max(step, round(value / step) * step)
            raise BadRequest(f"{side} {value} is not a multiple of {step}, as model '{spec.name}' needs; try {near}")


def check_sizes_told(request: RenderRequest, spec: ModelSpec) -> None:
    """Refuse sizes that a model would not be told: only SDXL's UNet reads them."""
    fields = ("original_size", "crop_corner", "target_size")
    told = [one for one in fields if getattr(request, one) != RenderRequest.model_fields[one].default]
    if told and not spec.configs.sdxl:
        raise BadRequest(f"{' and '.join(told)}: only SDXL models read it; model '{spec.name}' is none")


def check_steps(request: RenderRequest) -> None:
    name, count = request.scheduler or "", request.num_inference_steps or 0
    most = schedulers.get(name).max_steps
    if count > most:
        raise BadRequest(f"scheduler '{name}' takes at most {most} steps, not {count}")


def check_regions(request: RenderRequest, method: MethodModel) -> None:
    placed = next((use.name for use in request.adapters if use.region is not None), None)
    if placed is not None and not method.uses_regions:
        able = ", ".join(name for name in registry.names() if registry.get(name).uses_regions)
        raise BadRequest(
            f"LoRA '{placed}' has a region, which method '{request.method}' does not look at; choose one of {able}"
        )
