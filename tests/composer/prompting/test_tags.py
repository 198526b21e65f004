"""LoRA tags: all their forms, and that none is taken for text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import BadRequest
from composer.prompting.tags import LoraTag, Tagged, extract, suspects, told_of
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


@pytest.mark.parametrize(
    "text",
    [
        "x <lora:zorp:0.8",
        "< lora:zorp:0.8 >",
        "<lora zorp:0.8>",
        "<LORA=zorp>",
        "<lora:>",
        "<lyco :a:1>",
        "<lora：zorp:1>",
    ],
)
def test_what_looks_like_a_tag_is_told(text: str) -> None:
    tagged = extract(f"a cat, {text}")
    assert tagged == Tagged(f"a cat, {text}", ())
    (suspect,) = suspects(tagged.text, "a1111")
    assert suspect in text
    assert "write <lora:NAME:WEIGHT>" in told_of(suspect, "a1111")


@pytest.mark.parametrize("text", ["a < b", "<3", "<b>lora</b>", "lora:zorp:1", "<explorer:x:1>", "(lora)", "<lorax:b>"])
def test_what_does_not_is_not(text: str) -> None:
    assert suspects(extract(text).text, "a1111") == []


def test_tags_in_other_grammars_are_told() -> None:
    assert suspects("a <lora:x:1> b <lora:y", "plain") == ["<lora:x:1>"]
    assert "is text in prompts of syntax 'comfyui'" in told_of("<lora:x:1>", "comfyui")


@pytest.mark.parametrize(
    ("prompt", "count"),
    [
        ("[<lora:zorp:1>::0.5]", 1),
        ("[a <lora:zorp:1>:b:0.5] <lora:ink:1>", 1),
        ("[<lora:zorp:1>|<lora:ink:1>]", 2),
        ("[(<lora:zorp:1:step=0-5>):7]", 0),
        ("[(<lora:zorp:1>):7]", 1),
        ("[<lora:zorp:1>] (<lora:ink:1>)", 0),
        ("[a:b:0.5] <lora:zorp:1>", 0),
    ],
)
def test_a_tag_in_text_that_changes_is_told(prompt: str, count: int) -> None:
    remarks = extract(prompt).remarks
    assert len(remarks) == count
    assert all("step=FIRST-STOP" in remark for remark in remarks)


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(
        st.text(),
        st.lists(
            st.sampled_from(["<lora:", "<", ">", ":", "a", "1", "=", "step=", "0-5", " ", "[", "]", "::0.5", "|", "@"])
        ).map("".join),
    )
)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        tagged = extract(text)
    except BadRequest:
        return
    for syntax in ("a1111", "comfyui", "plain"):
        for suspect in suspects(tagged.text, syntax):
            assert len(told_of(suspect, syntax)) < 400
