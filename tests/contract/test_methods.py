"""What every registered method promises, whatever it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import JsonValue

from composer import registry
from composer.masks import Box
from composer.plan import Job, JobAdapter, JobRegion, Pass, Step
from composer.registry import Parameter
from composer.request import AdapterUse, RenderRequest
from pipelines.engine import Engine
from pipelines.resolve import Cost
from tests.requests import EXAMPLES, ask, final_latents, for_method, uses

METHODS = registry.names()
STEPS = [Step(index, 12, 999.0 - index, 1.0) for index in range(12)]
JOB = Job(tuple(JobAdapter(name, 0.7, 0.4) for name in "abc"), "a cat", "", "all", 12, 8, 8)

#: Methods that come only near the base model or plain LoRA by design, and the parameters that make them exact.
PLAIN: dict[str, dict[str, JsonValue]] = {"cmlora": {"reuse": "off"}}

LEFT = JobRegion(Box(0.0, 0.0, 0.4, 1.0), "a mat")


def job_for(name: str) -> Job:
    """Return a job with what the method looks at."""
    first, *others = JOB.adapters
    return replace(JOB, adapters=(replace(first, region=LEFT), *others)) if registry.get(name).uses_regions else JOB


def asked(name: str, parameters: dict[str, JsonValue]) -> list[list[Pass]]:
    plan = registry.create(name, {**EXAMPLES.get(name, {}), **parameters}).start(job_for(name))
    return [list(plan.passes(step)) for step in STEPS]


def values(parameter: Parameter) -> list[JsonValue]:
    """Return the values to try for a parameter."""
    if parameter.choices:
        return list(parameter.choices)
    if parameter.kind == "boolean":
        return [True, False]
    low, high = parameter.minimum or 0.0, parameter.maximum or 1.0
    return [int(low), int(low) + 1, int(high)] if parameter.kind == "integer" else [low, (low + high) / 2, high]


def close(a: object, b: object, tolerance: float = 1e-4) -> bool:
    return float(np.abs(np.asarray(a) - np.asarray(b)).max()) <= tolerance


@pytest.mark.parametrize("name", METHODS)
def test_asking_twice_gives_equal_answers(name: str) -> None:
    plan = registry.create(name, EXAMPLES.get(name, {})).start(job_for(name))
    forwards = [list(plan.passes(step)) for step in STEPS]
    backwards = [list(plan.passes(step)) for step in reversed(STEPS)][::-1]
    assert forwards == backwards == asked(name, {})


@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_does_something(name: str) -> None:
    for parameter in registry.describe(name).parameters:
        assert parameter.description
        plans = [asked(name, {parameter.name: value}) for value in values(parameter)]
        assert any(plan != plans[0] for plan in plans), parameter.name


@pytest.mark.parametrize("name", METHODS)
def test_passes_name_only_known_adapters_and_prompts(name: str) -> None:
    plan = registry.create(name, {}).start(job_for(name))
    for step in STEPS:
        passes = plan.passes(step)
        assert passes and sum(one.share for one in passes) > 0
        assert all(one.prompt in plan.prompts and set(one.adapters) <= {"a", "b", "c"} for one in passes)


@pytest.mark.parametrize("name", METHODS)
def test_one_adapter_is_plain_lora(name: str, engine: Engine, small_folder: Path) -> None:
    plain, found = (
        ask(str(small_folder), method=method, adapters=uses(1, first=2), text_encoder_adapters="all")
        for method in ("merge", name)
    )
    assert close(final_latents(engine, [plain])[0], final_latents(engine, [found])[0])


@pytest.mark.parametrize("name", METHODS)
def test_weights_of_zero_are_the_base(name: str, engine: Engine, small_folder: Path) -> None:
    zero = tuple(AdapterUse(name=f"lora{n}", weight=0.0) for n in range(3))
    exact = ask(str(small_folder), method=name, parameters=PLAIN.get(name, {}), adapters=zero)
    found = final_latents(engine, [exact])[0]
    base = final_latents(engine, [ask(str(small_folder))])[0]
    assert close(found, base)


@pytest.mark.parametrize("name", METHODS)
def test_weights_reach_the_picture(name: str, engine: Engine, small_folder: Path) -> None:
    def render(weight: float, text: float) -> object:
        use = AdapterUse(name="lora0", weight=weight, text_encoder_weight=text)
        return final_latents(engine, [ask(str(small_folder), method=name, adapters=(use,))])[0]

    assert not close(render(1.0, 0.0), render(0.5, 0.0), 1e-3)
    assert not close(render(1.0, 0.0), render(1.0, 1.0), 1e-3)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("name", METHODS)
def test_a_dry_run_counts_what_a_rendering_takes(
    name: str, guidance: float, engine: Engine, small_folder: Path
) -> None:
    request = for_method(name, str(small_folder), guidance_scale=guidance)
    cost, record = engine.dry_run(request), engine.render(request).record
    assert (cost.unet_passes, cost.unet_calls) == (record.unet_passes, record.unet_calls)
    rows = record.unet_passes * (2 if guidance > 1 else 1)
    assert cost == Cost(record.unet_passes, rows, record.unet_calls, record.shallow_passes)
    assert record.unet_calls == 3 or record.shallow_passes


@pytest.mark.parametrize("name", METHODS)
def test_a_record_repeats_its_picture(name: str, engine: Engine, small_folder: Path) -> None:
    first = engine.render(for_method(name, str(small_folder), scheduler="euler_a"))
    text = first.record.request().model_dump_json()
    again = engine.render(RenderRequest.model_validate_json(text))
    assert again.image == first.image
    assert again.record.pixels_sha256 == first.record.pixels_sha256
    assert again.record.request() == first.record.request()
    assert None not in first.record.model_dump().values()
