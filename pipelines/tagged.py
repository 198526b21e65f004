"""LoRAs that a prompt names in tags become LoRAs of the request."""

from __future__ import annotations

from composer.errors import BadRequest
from composer.prompting import tags
from composer.request import RenderRequest, parse_request


def with_tags(request: RenderRequest) -> RenderRequest:
    """Return a request whose `<lora:...>` tags are LoRAs of it, behind those it names already."""
    if request.prompt_syntax != "a1111":
        return request
    regional = [("region's prompt", use.region.prompt or "") for use in request.adapters if use.region is not None]
    others = [("negative prompt", request.negative_prompt), ("undesired text", request.undesired), *regional]
    for name, text in others:
        if tags.extract(text).loras:
            raise BadRequest(f"a LoRA tag in the {name}: a LoRA acts on all that is read; put it into the prompt")
    tagged = tags.extract(request.prompt)
    if not tagged.loras:
        return request
    used = [
        {
            "name": tag.name,
            "weight": tag.weight,
            "text_encoder_weight": tag.text_encoder_weight,
            "blocks": tag.blocks or None,
            "schedule": tag.schedule and tag.schedule.model_dump(),
        }
        for tag in tagged.loras
    ]
    asked = request.model_dump()
    told = [*asked["remarks"], *tagged.remarks]
    return parse_request({**asked, "prompt": tagged.text, "adapters": [*asked["adapters"], *used], "remarks": told})
