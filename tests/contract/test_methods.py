"""What every registered method promises, whatever it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import JsonValue
from torch import Tensor

from composer import registry
from composer.masks import Box
from composer.plan import Attention, Job, JobAdapter, JobRegion, Pass, Prediction, Prompt, Step
from composer.registry import MethodModel
from composer.request import TEXT_POLICIES, AdapterUse, RenderRequest
from composer.texts import TextEmbedding
from pipelines.engine import Engine
from pipelines.pricing import Cost
from tests.requests import EXAMPLES, ask, final_latents, for_method, uses, values

METHODS = registry.names()
STEPS = [Step(index, 12, 999.0 - index, 1.0) for index in range(12)]
WORDS = {"a": ("red", "cat"), "b": ("small mat",), "c": ("house",)}
JOB = Job(
    tuple(JobAdapter(name, 0.7, 0.4, words, frequency=len(name + words[0]) / 20) for name, words in WORDS.items()),
    "a red cat on a small mat, in a house",
    "",
    "all",
    12,
    8,
    8,
)

#: Methods whose guidance is not plain LoRA's by design, even with one LoRA, and the parameters that make it so.
PLAIN: dict[str, dict[str, JsonValue]] = {"loratorio": {"recentring": 0.0}}
#: Methods that come only near the base model by design, and the parameters that make them exact.
EXACT: dict[str, dict[str, JsonValue]] = {
    "clora": {"update": 0.0},
    "cmlora": {"reuse": "off"},
    "freefuse": {"bias": 0.0},
}

LEFT = JobRegion(Box(0.0, 0.0, 0.4, 1.0), "a mat")


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def job_for(method: MethodModel) -> Job:
    """Return a job with what a method looks at; texts are made of tokens that weigh more the longer they are."""
    vocabulary = {word: drawn(16, seed=n) * len(word) for n, word in enumerate(JOB.prompt.replace(",", "").split())}

    def read(text: str) -> TextEmbedding:
        own = [vocabulary[word] for word in text.replace(",", "").split()]
        return TextEmbedding(torch.stack([drawn(16, seed=98), *own, *[drawn(16, seed=99)] * (15 - len(own))]), len(own))

    first, *others = JOB.adapters
    placed = (replace(first, region=LEFT), *others) if method.uses_regions else JOB.adapters
    return replace(JOB, adapters=placed, texts={text: read(text) for text in method.texts(JOB)})


def told(latents: Tensor, one: Pass) -> Attention:
    """Return attention made of latents: of 4 x 4 places to 13 tokens, the same words always at the same ones."""
    cells = torch.nn.functional.avg_pool2d(latents, 2)[0].flatten(1).T  # [places, channels]
    seeds = [len(one.adapters), *(40 + len(area.prompt) for area in one.areas)]
    maps = [(3 * cells @ drawn(4, 13, seed=seed)).softmax(1).T.unflatten(1, (4, 4)) for seed in seeds]
    alike = cells @ cells.T

    def places(words: str) -> tuple[int, ...]:
        return (1 + sum(map(ord, words)) % 12,)

    areas = tuple(Attention(found, places) for found in maps[1:])
    return Attention(maps[0], places, areas, (3 * alike).softmax(1), alike)


class Eyes:
    """Looks without a model."""

    def attention(self, latents: Tensor, passes: Sequence[Pass]) -> list[Attention]:
        return [told(latents, one) for one in passes]

    def slope(
        self, latents: Tensor, passes: Sequence[Pass], loss: Callable[[Sequence[Attention]], Tensor]
    ) -> tuple[float, Tensor]:
        leaf = latents.clone().requires_grad_(True)
        found = loss(self.attention(leaf, passes))
        return float(found.detach()), torch.autograd.grad(found, leaf)[0]

    def ahead(self, latents: Tensor, one: Pass, count: int) -> Attention:
        return told(latents + drawn(*latents.shape, seed=count), one)


def begun(name: str, parameters: dict[str, JsonValue]) -> tuple[list[list[float]], list[list[Pass]], dict[str, Prompt]]:
    """Return the latents that a method's steps begin with, what it asks for then, and the prompts of that."""
    method = registry.create(name, {**EXAMPLES.get(name, {}), **parameters})
    plan, latents = method.start(job_for(method)), drawn(1, 4, 8, 8, seed=5)
    before, found, passes = plan.before_step, list[list[float]](), list[list[Pass]]()
    for step in STEPS:
        latents = latents if before is None else before(step, latents, Eyes())
        found.append(latents.flatten().tolist())
        passes.append(list(plan.passes(step)))
    return found, passes, dict(plan.prompts)


def asked(name: str, parameters: dict[str, JsonValue]) -> list[list[Pass]]:
    method = registry.create(name, {**EXAMPLES.get(name, {}), **parameters})
    plan = method.start(job_for(method))
    return [list(plan.passes(step)) for step in STEPS]


def combined(name: str, parameters: dict[str, JsonValue]) -> list[list[float]]:
    """Return what a method makes of some predictions, in each step."""
    method = registry.create(name, {**EXAMPLES.get(name, {}), **parameters})
    plan, found = method.start(job_for(method)), list[list[float]]()
    for step in STEPS:
        passes = plan.passes(step)
        answers = [
            Prediction(
                drawn(1, 2, 8, 8, seed=100 * step.index + 2 * place),
                None if one.uncond == "off" else drawn(1, 2, 8, 8, seed=100 * step.index + 2 * place + 1),
                told(drawn(1, 4, 8, 8, seed=step.index), one) if one.capture else None,
            )
            for place, one in enumerate(passes)
        ]
        mixed = plan.combine(step, passes, answers)
        assert mixed.uncond is not None
        found.append(torch.cat([mixed.cond, mixed.uncond]).flatten().tolist())
    return found


def close(a: object, b: object, tolerance: float = 1e-4) -> bool:
    return float(np.abs(np.asarray(a) - np.asarray(b)).max()) <= tolerance


@pytest.mark.parametrize("name", METHODS)
def test_asking_twice_gives_equal_answers(name: str) -> None:
    method = registry.create(name, EXAMPLES.get(name, {}))
    plan = method.start(job_for(method))
    forwards = [list(plan.passes(step)) for step in STEPS]
    backwards = [list(plan.passes(step)) for step in reversed(STEPS)][::-1]
    assert forwards == backwards == asked(name, {})


@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_does_something(name: str) -> None:
    for parameter in registry.describe(name).parameters:
        assert parameter.description
        choices: list[dict[str, JsonValue]] = [{parameter.name: value} for value in values(parameter)]
        plans = [(asked(name, chosen), combined(name, chosen), begun(name, chosen)) for chosen in choices]
        assert any(plan != plans[0] for plan in plans), parameter.name


@pytest.mark.parametrize("name", METHODS)
def test_passes_name_only_known_adapters_and_prompts(name: str) -> None:
    method = registry.create(name, {})
    for policy in TEXT_POLICIES:
        plan = method.start(replace(job_for(method), text_policy=policy))
        for step in STEPS:
            passes = plan.passes(step)
            assert passes and sum(one.share for one in passes) > 0
            assert any(one.uncond != "off" for one in passes)
            assert all(one.prompt in plan.prompts and set(one.adapters) <= {"a", "b", "c"} for one in passes)
            assert all(area.prompt in plan.prompts for one in passes for area in one.areas)


@pytest.mark.parametrize("name", METHODS)
def test_costs_do_not_depend_on_texts(name: str) -> None:
    method = registry.create(name, {})
    job = job_for(method)
    with_texts, without = method.start(job), method.start(replace(job, texts={}))
    for step in STEPS:
        wanted = [one.uncond == "off" for one in without.passes(step)]
        assert [one.uncond == "off" for one in with_texts.passes(step)] == wanted


@pytest.mark.parametrize("name", METHODS)
def test_one_adapter_is_plain_lora(name: str, engine: Engine, small_folder: Path) -> None:
    plain, found = (
        ask(
            str(small_folder),
            method=method,
            parameters=PLAIN.get(method, {}),
            adapters=uses(1, first=2),
            text_encoder_adapters="all",
        )
        for method in ("merge", name)
    )
    assert close(final_latents(engine, [plain])[0], final_latents(engine, [found])[0])


@pytest.mark.parametrize("name", METHODS)
def test_weights_of_zero_are_the_base(name: str, engine: Engine, small_folder: Path) -> None:
    zero = tuple(AdapterUse(name=f"lora{n}", weight=0.0) for n in range(3))
    exact = ask(str(small_folder), method=name, parameters=EXACT.get(name, {}), adapters=zero)
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


@pytest.mark.parametrize("name", METHODS)
def test_undesired_words_are_taken_out_of_every_method(name: str, engine: Engine, small_folder: Path) -> None:
    plain, freed = (for_method(name, str(small_folder), undesired=text) for text in ("", "mat"))
    assert not close(final_latents(engine, [plain])[0], final_latents(engine, [freed])[0], 1e-3)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("name", METHODS)
def test_a_dry_run_counts_what_a_rendering_takes(
    name: str, guidance: float, engine: Engine, small_folder: Path
) -> None:
    request = for_method(name, str(small_folder), guidance_scale=guidance)
    cost, record = engine.dry_run(request), engine.render(request).record
    assert (cost.unet_passes, cost.unet_calls) == (record.unet_passes, record.unet_calls)
    rows, shallow = record.unet_rows or 0, record.shallow_passes
    assert cost == Cost(record.unet_passes, rows, record.unet_calls, shallow, record.looks)
    assert record.unet_calls == 3 or record.shallow_passes


@pytest.mark.parametrize("name", METHODS)
def test_a_record_repeats_its_picture(name: str, engine: Engine, small_folder: Path) -> None:
    first = engine.render(for_method(name, str(small_folder), scheduler="euler_a"))
    text = first.record.request().model_dump_json()
    again = engine.render(RenderRequest.model_validate_json(text))
    assert again.image == first.image
    assert again.record.pixels_sha256 == first.record.pixels_sha256
    assert again.record.request() == first.record.request()
    assert None not in first.record.model_dump(exclude={"start", "hires"}).values()  # of these, None is none
