"""The arithmetic of pictures that begin with a picture, and of a second pass: steps left out, sizes."""

from __future__ import annotations

from composer.errors import BadRequest
from composer.request import Hires, RenderRequest
from pipelines.specs import ModelSpec


def skipped(count: int, strength: float) -> int:
    """Return how many of the first steps are left out, as in diffusers; a strength too small for one is an error."""
    done = min(int(count * strength), count)
    if strength and not done:
        raise BadRequest(
            f"of {count} steps, strength {strength:g} does none; it takes at least {1 / count:.3g}, or 0 to leave the "
            "picture as it is"
        )
    return count - done


def enlarged(request: RenderRequest, hires: Hires, spec: ModelSpec) -> RenderRequest:
    """Return the request of the second pass, whose size must be one that the model can make."""
    if request.start is not None and request.start.mask is not None:
        raise BadRequest("a mask keeps pixels of the picture given, and a second pass enlarges them: leave out one")
    sides = {side: _side(side, getattr(request, side) or 0, hires, spec) for side in ("width", "height")}
    count = hires.num_inference_steps or request.num_inference_steps
    return request.model_copy(update={**sides, "num_inference_steps": count, "start": None, "hires": None})


def _side(side: str, first: int, hires: Hires, spec: ModelSpec) -> int:
    wanted, step = first * hires.scale, spec.latent_factor
    near = max(step, round(wanted / step) * step)
    if abs(wanted - near) > 1e-3:
        raise BadRequest(
            f"hires scale {hires.scale:g} makes a {side} of {wanted:g}, which is not a multiple of {step}, as model "
            f"'{spec.name}' needs; try a scale of {near / first:.6g}"
        )
    return near
