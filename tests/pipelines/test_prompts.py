"""Prompts as the model reads them: chunks, weights, steps, AND, tags; against direct computation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import BadRequest
from composer.plan import Pass, Plan, Prediction, Prompt, Step
from composer.prompting.schedule import Timeline
from composer.prompting.staged import spoken, staged
from composer.request import AdapterUse, RenderRequest
from composer.texts import project_off
from lora_zoo.errors import UnknownName
from pipelines import prompts
from pipelines.engine import Engine
from pipelines.model import LoadedModel
from pipelines.prompts import Token, chunked
from pipelines.reading import Asked, PromptReader
from pipelines.text import Context

LONG = ", ".join(["a cat on a cat"] * 20)


def request(prompt: str, **more: object) -> RenderRequest:
    return RenderRequest.model_validate(
        {"model": "small", "prompt": prompt, "num_inference_steps": 4, "width": 16, "height": 16, **more}
    )


def render(engine: Engine, folder: Path, prompt: str, **more: object) -> torch.Tensor:
    """Return a picture's pixels."""
    image = engine.render(request(prompt, model=str(folder), **more)).image
    return torch.from_numpy(numpy.asarray(image).astype("float32"))


def test_a_plain_short_prompt_reads_as_in_a_plain_pipeline(small: LoadedModel) -> None:
    for text in ("a cat on a mat", "", "cat, (dog:1.0)"):
        reading = prompts.read(small, text, ())
        plain = small.encode(text.replace("(", "").replace(":1.0)", ""), ())
        assert torch.equal(reading.context.embeds, plain.embeds)
        assert (len(reading.chunks), reading.later) == (1, "")


def test_weights_multiply_embeddings_and_keep_their_mean(small: LoadedModel) -> None:
    reading = prompts.read(small, "cat (at:1.5) [on]", ()).context.embeds
    plain = small.encode("cat at on", ()).embeds
    factors = torch.ones(1, plain.shape[1], 1)
    factors[0, 2], factors[0, 3] = 1.5, 1 / 1.1  # behind the mark and "cat", each word one token
    expected = plain * factors
    expected = expected * (plain.mean() / expected.mean())
    torch.testing.assert_close(reading, expected)
    torch.testing.assert_close(reading.mean(), plain.mean())


def test_a_long_prompt_is_read_in_chunks(small: LoadedModel) -> None:
    count = len(small.tokens(LONG))
    reading = prompts.read(small, LONG, ())
    assert len(reading.chunks) >= math.ceil(count / small.chunk_length) >= 2
    assert reading.context.embeds.shape[1] == len(reading.chunks) * (small.chunk_length + 2)
    first = small.encode_tokens(small.tokens(reading.first), ()).embeds
    assert torch.equal(reading.context.embeds[:, : first.shape[1]], first)
    assert reading.later


def test_what_is_undesired_is_taken_out_of_every_chunk(small: LoadedModel) -> None:
    reading, undesired = prompts.read(small, "cat BREAK on the mat", ()), prompts.read(small, "(mat:1.3) BREAK dog", ())
    own = torch.cat([small.encode(text, ()).text.own for text in ("mat", "dog")])
    freed = [project_off(small.encode(text, ()).embeds, own, 0.7) for text in ("cat", "on the mat")]
    torch.testing.assert_close(reading.freed(undesired, 0.7).context.embeds, torch.cat(freed, 1))


def test_a_method_sees_the_words_without_signs() -> None:
    words = spoken("a (red:1.2) cat [in|on] [a box:mats:2] AND fog :0.5", Timeline(4)).split()
    assert words == "a red cat in a box fog".split()


def test_break_begins_a_chunk(small: LoadedModel) -> None:
    reading = prompts.read(small, "cat BREAK on", ())
    one, two = small.encode("cat", ()).embeds, small.encode("on", ()).embeds
    assert torch.equal(reading.context.embeds, torch.cat([one, two], 1))


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), max_size=200), st.integers(21, 75))
def test_chunks_hold_all_tokens_in_order(numbers: list[int], length: int) -> None:
    tokens = [Token(number, 1.0) for number in numbers]
    chunks = chunked(tokens, length, comma=0)
    assert [token for chunk in chunks for token in chunk] == tokens
    assert all(len(chunk) <= length for chunk in chunks)
    assert all(len(chunk) >= length - 20 for chunk in chunks[:-1])


def test_a_chunk_ends_at_a_late_comma() -> None:
    tokens = [Token(number, 1.0) for number in (1, 1, 0, 1, 1, 1)]
    assert [len(chunk) for chunk in chunked(tokens, 5, comma=0)] == [3, 3]
    assert [len(chunk) for chunk in chunked(tokens, 5, comma=9)] == [5, 1]


def test_repeated_embeddings_are_attended_to_as_once(small: LoadedModel) -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 8, 8, generator=generator)
    embeds = small.encode("a cat", ()).embeds
    times = torch.tensor([500.0])
    with torch.no_grad():
        once = small.predict_noise(latents, times, embeds)
        thrice = small.predict_noise(latents, times, embeds.repeat(1, 3, 1))
    torch.testing.assert_close(once, thrice, atol=1e-5, rtol=1e-4)
    both = prompts.alike([Context(torch.zeros(1, 6, 2)), Context(torch.zeros(1, 4, 2))])
    assert [one.embeds.shape[1] for one in both] == [12, 12]


def test_what_a_prompt_says_changes_the_picture(engine: Engine, small_folder: Path) -> None:
    plain = render(engine, small_folder, "a cat on")
    same = render(engine, small_folder, "[a cat:dog:4] on")
    assert torch.equal(plain, same)
    for other in ("a (cat:3) on", "[a cat:cat cat:2] on", "[a|cat cat] cat on", "a cat on AND cat cat :0.7"):
        assert not torch.equal(plain, render(engine, small_folder, other))
    literal = render(engine, small_folder, "a (cat:3) on", prompt_syntax="plain")
    assert not torch.equal(literal, render(engine, small_folder, "a (cat:3) on"))


def test_long_and_short_prompts_in_one_batch_are_as_alone(engine: Engine, small_folder: Path) -> None:
    both = [
        request(text, model=str(small_folder), negative_prompt=negative)
        for text, negative in ((LONG, ""), ("a cat", ""), ("cat", LONG), ("[a:cat:2] on AND on :0.5", "at"))
    ]
    for asked, together in zip(both, engine.render_many(both), strict=True):
        alone = numpy.asarray(engine.render(asked).image, dtype=int)
        assert numpy.abs(alone - numpy.asarray(together.image)).max() <= 1  # sums of more rows may be rounded otherwise


def test_a_long_prompt_is_told_with_whose_trigger_is_late(engine: Engine, small_folder: Path) -> None:
    triggers = {"hat": ("on zzz",), "early": ("a cat",)}
    model = engine.model(str(small_folder))
    for weighted, start in ((True, "the prompt is read in"), (False, "the prompt is longer")):
        notices: dict[str, None] = {}
        prompt = Prompt(f"{LONG}, on zzz", weighted=weighted)
        PromptReader(model).read(Asked(prompt, (), False, triggers), notices)
        (notice,) = notices
        assert notice.startswith(start)
        assert "the trigger 'on zzz' of LoRA 'hat' is there" in notice
        assert "early" not in notice


def test_tags_are_loras_of_the_request(engine: Engine, small_folder: Path) -> None:
    resolved = engine.resolve(
        request("cat <lora:lora1:0.5:0.25>", model=str(small_folder), adapters=[{"name": "lora0"}])
    )
    assert resolved.request.prompt == "cat "
    assert [use.name for use in resolved.request.adapters] == ["lora0", "lora1"]
    tagged = resolved.request.adapters[1]
    assert (tagged.weight, tagged.text_encoder_weight) == (0.25, 0.5)
    flagged = request("cat ", model=str(small_folder), adapters=resolved.request.adapters)
    assert engine.resolve(flagged).request == resolved.request  # the record of a picture repeats it


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"prompt": "<lora:lora9:1>"}, "'lora"),
        ({"prompt": "<lora:lora1:1><lora:lora1:1>"}, "once"),
        ({"prompt": "<lora:lora1:1>", "adapters": [AdapterUse(name="lora1")]}, "once"),
        ({"prompt": "x", "negative_prompt": "<lora:lora1:1>"}, "negative"),
        ({"prompt": "x", "undesired": "<lora:lora1:1>"}, "undesired"),
        ({"prompt": "<lora:lora1:1:step=3-2>"}, "acts in no step"),
        ({"prompt": "a AND b", "guidance_scale": 1.0}, "guidance"),
        ({"prompt": f"a AND b:{'9' * 400}"}, "weight between -1000 and 1000"),
        ({"prompt": "a:-1001"}, "with -1001; write a weight between -1000 and 1000"),
    ],
)
def test_mistakes_are_told(asked: dict[str, object], told: str, engine: Engine, small_folder: Path) -> None:
    with pytest.raises((BadRequest, UnknownName), match=told):
        engine.resolve(RenderRequest.model_validate({"model": str(small_folder), **asked}))


@pytest.mark.parametrize("text", [f"a (cat:{'9' * 400})", f"(a cat:{'9' * 400})", f"a (cat:-{'9' * 400}) on"])
def test_a_weight_of_hundreds_of_digits_is_told_and_leaves_a_picture(
    text: str, engine: Engine, small_folder: Path
) -> None:
    found = engine.render(request(text, model=str(small_folder)))
    assert sum("too great a weight" in told for told in found.record.notices) == 1
    assert not any("no number" in told for told in found.record.notices)
    assert float(numpy.asarray(found.image).std()) > 1.0


@pytest.mark.parametrize("second", ["same", "off"])
def test_and_is_composed_by_its_formula(second: Literal["same", "off"]) -> None:
    both = [Pass({}, share=1.0), Pass({}, share=3.0, uncond=second)]
    plan = Plan(lambda step: both, {"main": Prompt("a :0.5 AND b :2", "n")})
    one = staged(plan, Timeline(1))
    step = Step(0, 1, 999.0, 1.0)
    passes = one.passes(step)
    assert [one.prompts[each.prompt].text.strip() for each in passes] == ["a", "b", "a", "b"]
    assert [each.uncond for each in passes] == ["same", "off"] * 2  # one unconditional row is enough for a pass
    conds = [torch.tensor(value) for value in (2.0, 4.0, 10.0, -2.0)]
    unconds = [torch.tensor(1.0), None] * 2
    mixed = one.combine(step, passes, [Prediction(*found) for found in zip(conds, unconds, strict=True)])
    assert mixed.uncond is not None and float(mixed.uncond) == 1.0
    first, last = 1 + 0.5 * (2 - 1) + 2 * (4 - 1), 1 + 0.5 * (10 - 1) + 2 * (-2 - 1)
    assert float(mixed.cond) == pytest.approx(0.25 * first + 0.75 * last)


def test_a_plan_keeps_its_prompts_where_nothing_changes() -> None:
    plan = Plan(lambda step: [Pass({"x": 1.0}, "k")], {"k": Prompt("plain", "other", {"x": 0.5})})
    one = staged(plan, Timeline(3))
    assert dict(one.prompts) == {"k": Prompt("plain", "other", {"x": 0.5}, weighted=True)}
    assert [list(one.passes(Step(index, 3, 0.0, 0.0))) for index in range(3)] == [[Pass({"x": 1.0}, "k")]] * 3
