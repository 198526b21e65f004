"""Where A1111's settings begin, what belongs to them, and what signs in other tools' prompts mean."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_zoo.errors import ZooError
from lora_zoo.library import Library
from pipelines.engine import Engine
from pipelines.errors import BadMetadata
from pipelines.metadata import infotext, readers
from pipelines.metadata.found import Found, FoundLora
from pipelines.metadata.matching import match_to
from tests.pipelines.metadata.samples import COMFYUI, FOOOCUS

SETTINGS = "Steps: 23, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 512x512"


def read(text: str) -> Found:
    found = readers.read({"parameters": text})
    assert found is not None
    return found


@pytest.mark.parametrize(
    "text",
    [
        f"a cat\nNegative prompt: a dog\n{SETTINGS}",
        f"a cat\nNegative prompt: a dog\n  {SETTINGS}\nTemplate: a {{cat|hat}}\nNegative Template: a {{dog|log}}, b: c",
        f'a cat\nNegative prompt: a dog\n{SETTINGS}, Wildcard prompt: "a\nb, c: d\nSteps of stairs", RNG: CPU',
        f"a cat Negative prompt: a dog {SETTINGS}",
        f"a cat\nNegative prompt: a dog {SETTINGS}",
        f"a cat\r\nNegative prompt: a dog\r\n{SETTINGS}",
        "a cat\nNegative prompt: a dog\nSeed: 5, Size: 512x512, Steps: 23",
    ],
)
def test_settings_begin_at_the_last_line_of_steps(text: str) -> None:
    found = read(text)
    assert (found.prompt, found.negative_prompt) == ("a cat", "a dog")
    assert (found.steps, found.seed, found.width) == (23, 5, 512)


def test_one_line_without_a_negative_prompt() -> None:
    found = read(f"a cat Negative prompt: {SETTINGS}")
    assert (found.prompt, found.negative_prompt, found.steps) == ("a cat", "", 23)


def test_what_follows_the_settings_is_told() -> None:
    found = read(f'a cat\n{SETTINGS}, Note: "x\ny"\nTemplate: a {{cat|hat}}, b\nNegative Template: bad, worse')
    told = ("Note: 'x\\ny'", "Template: 'a {cat|hat}, b'", "Negative Template: 'bad, worse'")
    assert found.unresolved == told


def test_steps_of_a_prompt_are_no_settings() -> None:
    found = read(f"a house\nSteps: of stone\n{SETTINGS}")
    assert found.prompt == "a house\nSteps: of stone"
    found = read("a house\nSteps: of stone\nSeed: 5, Size: 8x8, Model: m")
    assert (found.prompt, found.seed) == ("a house\nSteps: of stone", 5)
    assert read("Steps: of stone").prompt == "Steps: of stone"


def test_a_loras_name_may_hold_commas() -> None:
    listed = "te,st1: 0123456789ab, b: ab0123456789, c: 9876543210"
    text = f'x <lora:te,st1:0.8> <lora:b:1>\n{SETTINGS}, Lora hashes: "{listed}"'
    assert read(text).loras == (
        FoundLora("te,st1", 0.8, 0.8, "0123456789ab"),
        FoundLora("b", 1.0, 1.0, "ab0123456789"),
        FoundLora("c", None, None, "9876543210"),
    )


@pytest.mark.parametrize(
    ("version", "prompt", "told"),
    [("v1.5.2", "a [b:c:0.5]", True), ("v1.6.0", "a [b:c:0.5]", False), ("v1.5.2", "a [b]", False)],
)
def test_prompt_editing_of_old_versions_over_two_passes_is_told(version: str, prompt: str, told: bool) -> None:
    hires = "Denoising strength: 0.5, Hires upscale: 2, Hires upscaler: Latent"
    found = read(f"{prompt}\n{SETTINGS}, {hires}, Version: {version}")
    assert found.hires is not None
    assert any("before version 1.6" in remark for remark in found.unresolved) == told


def graph(text: str) -> dict[str, str]:
    """Return what ComfyUI would have written for a prompt."""
    nodes = json.loads(json.dumps(COMFYUI))
    for node in nodes.values():
        if node["class_type"] == "CLIPTextEncode":
            node["inputs"]["text"] = text
    return {"prompt": json.dumps(nodes)}


def matched(texts: dict[str, str]):  # noqa: ANN201
    found = readers.read(texts)
    assert found is not None
    return match_to(replace(found, model="tiny", loras=()), Library(), False, False)


def test_comfyuis_text_is_text_but_for_round_brackets() -> None:
    text = "a cat [red] [cat|dog] AND a {x|y} __hat__ ((a:1.2):1.3)"
    match = matched(graph(text))
    assert (match.request.prompt, match.request.prompt_syntax, match.request.choices) == (text, "comfyui", "text")
    assert any("act on embeddings as A1111's do" in remark for remark in match.remarks)
    resolved = Engine().resolve(match.request)
    plan = resolved.plan()
    assert list(plan.prompts) == ["main"]
    assert plan.prompts["main"].weighted
    assert resolved.request.prompt == text
    plain = "a cat [red] [cat|dog] AND a {x|y} __hat__ a"
    assert resolved.spoken(text) == plain
    assert Engine().dry_run(match.request).unet_passes == resolved.request.num_inference_steps


def test_a_tag_in_comfyuis_text_is_told() -> None:
    match = matched(graph("a cat <lora:bolt:1.0> embedding:easyneg"))
    assert match.request.adapters == ()
    assert "'<lora:bolt:1.0>' is text" in "; ".join(match.remarks)
    assert "'embedding:easyneg'" in "; ".join(match.remarks)
    resolved = Engine().resolve(match.request)
    assert resolved.request.adapters == ()
    assert "<lora:bolt:1.0>" in resolved.request.prompt
    assert any("'<lora:bolt:1.0>' is text" in notice for notice in resolved.notices)


def test_fooocus_reads_prompts_as_comfyui_does() -> None:
    match = matched({"parameters": json.dumps({**FOOOCUS, "full_prompt": ["a [b] AND c"]})})
    assert (match.request.prompt, match.request.prompt_syntax) == ("a [b] AND c", "comfyui")


def test_half_of_a_character_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadMetadata, match="half of a character"):
        readers.read({"prompt": '{"1": {"class_type": "\\ud800", "inputs": {}}}'})
    with pytest.raises(BadMetadata, match="half of a character"):
        readers.read({"invokeai_metadata": '{"positive_prompt": "\\udfff"}'})


PIECES = st.lists(
    st.sampled_from(
        ["Steps: 9, ", "\n", "Negative prompt: ", "Template: ", "Seed: 1, ", "Size: 8x8", ",", ":", '"', "{", "[", "\\"]
        + ["<lora:a:1>", "<", "Lora hashes: ", "a", " ", "\r", "]", "}", "\ud800", "[a:b:1]", "(", ")"]
    ),
    max_size=30,
).map("".join)


@settings(deadline=None, max_examples=400)
@given(st.one_of(st.text(), PIECES))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = readers.read({"parameters": text})
    except ZooError:
        return
    assert found is not None
    found.prompt.encode("utf-8")


@settings(deadline=None)
@given(st.dictionaries(st.text("abc", min_size=2, max_size=5), st.text(min_size=1), min_size=3, max_size=6))
def test_values_that_are_quoted_come_back(pairs: dict[str, str]) -> None:
    stripped = {key: value.strip() for key, value in pairs.items() if value.strip()}
    line = ", ".join(f"{key}: {infotext.quote(value)}" for key, value in stripped.items())
    expected = {key: value for key, value in stripped.items()}
    if not any(value[0] in '"{[' or "\r" in value for value in stripped.values()):
        assert dict(infotext.pairs(line)) == expected
