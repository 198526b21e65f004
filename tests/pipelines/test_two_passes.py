"""Prompts that change over the steps, in a picture of two passes; and what reading them tells in the record."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor, equal

from composer.request import RenderRequest
from pipelines import images
from pipelines.engine import Engine
from pipelines.pricing import steps_of
from pipelines.progress import StepReport
from tests.requests import ask
from ui.forms import Draft

HIRES = {"scale": 2.0, "strength": 0.5}


def latents(engine: Engine, request: RenderRequest) -> list[Tensor]:
    """Return the latents after every step of both passes."""
    found: list[Tensor] = []

    def keep(report: StepReport) -> None:
        found.append(report.pictures[0].latents)

    engine.render(request, keep)
    return found


@pytest.mark.parametrize(
    ("prompt", "first", "second"),
    [
        ("[a cat:dog:0.5]", "a cat,a cat,dog,dog", "dog,dog"),
        ("[a cat:dog:1.5]", "a cat,a cat,a cat,a cat", "a cat,dog"),
        ("[a cat:dog:5]", "a cat,a cat,a cat,a cat", "a cat,dog"),
    ],
)
def test_editing_goes_on_in_the_second_pass(
    prompt: str, first: str, second: str, engine: Engine, small_folder: Path
) -> None:
    request = ask(str(small_folder), prompt=prompt, num_inference_steps=4, hires=HIRES)
    resolved = engine.resolve(request)
    assert resolved.second is not None
    for one, wanted in ((resolved, first.split(",")), (resolved.second, second.split(","))):
        plan = one.plan()
        passes = [plan.passes(step)[0] for step in steps_of(one.count)]
        assert [plan.prompts[found.prompt].text for found in passes] == wanted
    made = latents(engine, request)
    assert len(made) == 6
    if "0.5" in prompt:  # as a picture whose second pass reads the last text throughout
        alone = latents(engine, ask(str(small_folder), prompt="[a cat:dog:2]", num_inference_steps=4, hires=HIRES))
        assert all(equal(one, other) for one, other in zip(made, alone, strict=True))


def test_pictures_of_one_pass_are_as_before(engine: Engine, small_folder: Path) -> None:
    shares, numbers = (
        latents(engine, ask(str(small_folder), prompt=prompt, num_inference_steps=4))
        for prompt in ("[a cat:dog:0.5]", "[a cat:dog:2]")
    )
    assert all(equal(one, other) for one, other in zip(shares, numbers, strict=True))


def test_what_tags_do_not_do_is_told_in_the_record(engine: Engine, small_folder: Path, tmp_path: Path) -> None:
    prompt = "[<lora:lora0:1>::0.5] < lora:lora1:1 >"
    asked = ask(str(small_folder), prompt=prompt, num_inference_steps=1)
    resolved = engine.resolve(asked).request
    made = engine.render(resolved)  # as a batch and a server do, which keep what is resolved
    told = "; ".join(made.record.notices)
    assert "<lora:lora0:1> stands in text that changes over the steps" in told
    assert "'< lora:lora1:1 >' looks like a LoRA's tag" in told
    assert made.record.notices == engine.render(asked).record.notices
    images.save(made, tmp_path / "a.png")
    again = images.read_record(tmp_path / "a.png").request().model_copy(update={"model": str(small_folder)})
    assert engine.render(again).record.notices == made.record.notices
    assert Draft.from_request(again).request().remarks == ()  # of a page, whose prompt may be another now


def test_a_tag_beside_a_plain_prompt_is_told(engine: Engine, small_folder: Path) -> None:
    asked = ask(str(small_folder), prompt="a <lora:lora0:1>", prompt_syntax="plain", num_inference_steps=1)
    assert any("is text in prompts of syntax 'plain'" in one for one in engine.render(asked).record.notices)
