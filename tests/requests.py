"""Short requests for the test models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import JsonValue
from torch import Tensor

from composer import registry
from composer.record import RenderRecord
from composer.registry import Parameter
from composer.request import AdapterUse, Region, RenderRequest
from pipelines.engine import Engine
from pipelines.progress import StepReport

#: Parameters that make all others of a method matter.
EXAMPLES: dict[str, dict[str, JsonValue]] = {
    "clora": {"refine": 1},
    "cmlora": {"low": 1},
    "freefuse": {"masks": "likeness"},
    "lego": {"rank": 2},
    "w_switch": {"evidence": "triggers", "tail": 0},
}

WEIGHTS = (0.8, -0.5, 1.3, 1.0, 0.6)


def uses(count: int, first: int = 0) -> tuple[AdapterUse, ...]:
    return tuple(AdapterUse(name=f"lora{n}", weight=WEIGHTS[n]) for n in range(first, first + count))


def ask(model: str, **fields: Any) -> RenderRequest:
    """Return a short request; fields replace the usual ones."""
    usual: dict[str, Any] = {"prompt": "a cat on a mat", "num_inference_steps": 3, "guidance_scale": 4.0, "seed": 7}
    return RenderRequest(model=model, **{**usual, **fields})


def for_method(name: str, model: str, **fields: Any) -> RenderRequest:
    """Return a short request that any method can serve."""
    method = registry.get(name)
    adapters = uses(max(2, method.min_adapters))
    if method.uses_regions:
        left = Region(box=(0.0, 0.0, 0.4, 1.0), prompt="on a mat")
        adapters = (adapters[0].model_copy(update={"region": left}), *adapters[1:])
    return ask(model, **{"method": name, "adapters": adapters, "parameters": EXAMPLES.get(name, {}), **fields})


def values(parameter: Parameter) -> list[JsonValue]:
    """Return the values to try for a parameter."""
    if parameter.choices:
        return list(parameter.choices)
    if parameter.kind == "boolean":
        return [True, False]
    low, high = parameter.minimum or 0.0, parameter.maximum or 1.0
    return [int(low), int(low) + 1, int(high)] if parameter.kind == "integer" else [low, (low + high) / 2, high]


def final_latents(engine: Engine, requests: Sequence[RenderRequest]) -> list[Tensor]:
    """Return the latents of each request after its last step."""
    last: dict[int, Tensor] = {}

    def keep(report: StepReport) -> None:
        last.update({picture.position: picture.latents for picture in report.pictures})

    engine.render_many(requests, keep)
    return [last[place] for place in range(len(requests))]


def close(ours: Tensor, theirs: Tensor) -> bool:
    """Whether latents agree to 1e-5 of their size: all that kernels chosen by a weight's place in memory may change."""
    return bool((ours - theirs).abs().max() <= 1e-5 * theirs.abs().max())


def told(record: RenderRecord) -> tuple[str, ...]:
    """Return a record's notices, but for the one that pictures of few steps have: most tests make such."""
    return tuple(notice for notice in record.notices if "leaves out the noisiest steps" not in notice)
