"""LoRA tags: all their forms, and that none is taken for text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import BadRequest
from composer.prompting.tags import LoraTag, extract
from composer.request import Schedule

ONES = ",".join(["1"] * 17)

READ = {
    "<lora:ink>": LoraTag("ink", 1.0, 1.0),
    "<lora:ink:0.8>": LoraTag("ink", 0.8, 0.8),
    "<lora:ink:0.8:0.5>": LoraTag("ink", 0.8, 0.5),
    "<lora:ink style (v2):-0.5>": LoraTag("ink style (v2)", -0.5, -0.5),
    "<lyco:ink:te=0.2:unet=0.9>": LoraTag("ink", 0.2, 0.9),
    "<lora:ink:0.5:te=0>": LoraTag("ink", 0.0, 0.0),
    f"<lora:ink:1:1:lbw={ONES}>": LoraTag("ink", 1.0, 1.0, ONES),
    "<lora:ink:1:lbw=INALL>": LoraTag("ink", 1.0, 1.0, "INALL"),
    "<lora:ink:1:start=3:stop=7>": LoraTag("ink", 1.0, 1.0, "", Schedule(start=3, stop=7)),
    "<lora:ink:1:step=2-9>": LoraTag("ink", 1.0, 1.0, "", Schedule(start=2, stop=9)),
    "<lora:ink:stop=0.4>": LoraTag("ink", 1.0, 1.0, "", Schedule(stop=0.4)),
    "<lora:ink:start=4>": LoraTag("ink", 1.0, 1.0, "", Schedule(start=4)),
    "<lora:ink:0@0,1@0.4>": LoraTag("ink", 0.0, 1.0, "", Schedule(curve=((0, 0), (0.4, 1)))),
    "<lora:ink:te=1:unet=1@0;0@12>": LoraTag("ink", 1.0, 1.0, "", Schedule(curve=((0, 1), (12, 0)))),
}


@pytest.mark.parametrize("tag", READ)
def test_forms(tag: str) -> None:
    tagged = extract(f"a cat {tag}, sky")
    assert tagged.loras == (READ[tag],)
    assert tagged.text == "a cat , sky"


@pytest.mark.parametrize(
    ("tag", "told"),
    [
        ("<lora::1>", "name is missing"),
        ("<lora:ink:much>", "'much' is not a number"),
        ("<lora:ink:nan>", "not a weight"),
        ("<lora:ink:1000>", "-100 to 100"),
        ("<lora:ink:1:1:8>", "at most two"),
        ("<lora:ink:1:tee=1>", "'te'"),
        ("<lora:ink:te=1:te=1>", "twice"),
        ("<lora:ink:1@x>", "'x' is not a number"),
        ("<lora:ink:1@0,2@0>", "one factor at each position"),
        ("<lora:ink:1:step=5>", "FIRST-STOP"),
        ("<lora:ink:1:start=-1>", "neither a step"),
        ("<lora:ink:1:start=1.5>", "neither a step"),
        ("<lora:ink:1:stop=0>", "greater than 0"),
        ("<lora:ink:1:step=1-2:stop=3>", "one of them"),
        ("<hypernet:x:1>", "hypernetworks"),
    ],
)
def test_what_is_not_understood_is_an_error(tag: str, told: str) -> None:
    with pytest.raises(BadRequest) as raised:
        extract(tag)
    assert told in str(raised.value)
    assert tag in str(raised.value)


@settings(deadline=None)
@given(st.text())
def test_texts_without_tags_stay_as_they_are(text: str) -> None:
    if ":" not in text:
        assert extract(text).text == text


def test_signs_that_are_no_tags_are_text() -> None:
    assert extract("a < b, <b:c> and <lora>").text == "a < b, <b:c> and <lora>"
