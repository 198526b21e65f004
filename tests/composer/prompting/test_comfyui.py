"""ComfyUI's prompts, beside ComfyUI's own reading of them (comfy/sd1_clip.py, GPL-3: its rules, written down anew)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.prompting import comfyui, emphasis, schedule
from composer.prompting.emphasis import Span


def theirs(text: str, weight: float = 1.0, depth: int = 0) -> list[tuple[str, float]]:
    """Return what ComfyUI reads: pairs of brackets of the outer level are taken off, one level after the other."""
    items, item, level = [], "", 0
    for sign in text:
        if sign == "(" and level == 0 and item:
            items.append(item)
            item = ""
        item += sign
        level += {"(": 1, ")": -1}.get(sign, 0)
        if sign == ")" and level == 0:
            items.append(item)
            item = ""
    found: list[tuple[str, float]] = []
    for one in [*items, item] if item else items:
        if not (len(one) > 1 and one[0] == "(" and one[-1] == ")"):
            found.append((one, weight))
            continue
        inner, own = one[1:-1], weight * 1.1
        place = inner.rfind(":")
        if place > 0:
            try:
                own, inner = float(inner[place + 1 :]), inner[:place]
            except ValueError:
                pass
        found += theirs(inner, own, depth + 1)
    return found


@pytest.mark.parametrize(
    ("prompt", "spans"),
    [
        ("a cat [red] [cat|dog] AND a hat", [Span("a cat [red] [cat|dog] AND a hat")]),
        ("((a:1.2):1.3)", [Span("a", 1.2)]),
        ("(a (b:0.5) c:1.3)", [Span("a ", 1.3), Span("b", 0.5), Span(" c", 1.3)]),
        ("((a))", [Span("a", 1.1 * 1.1)]),
        (r"\(a:1.2\) (b)", [Span("(a:1.2) "), Span("b", 1.1)]),
        ("(a:nan) (b:1e400)", [Span("a:nan", 1.1), Span(" "), Span("b:1e400", 1.1)]),
        ("a) (b", [Span("a) (b")]),
        ("BREAK <lora:bolt:1.0> {a|b}", [Span("BREAK <lora:bolt:1.0> {a|b}")]),
        ("", []),
    ],
)
def test_brackets_weigh_and_the_rest_is_text(prompt: str, spans: list[Span]) -> None:
    assert list(comfyui.parse(prompt)) == spans


@settings(deadline=None, max_examples=500)
@given(st.text(alphabet="ab ()()()::1.5-[]|", max_size=40))
def test_it_is_read_as_comfyui_reads_it(prompt: str) -> None:
    assert [(one.text, one.weight) for one in comfyui.parse(prompt)] == [one for one in theirs(prompt) if one[0]]


@settings(deadline=None, max_examples=500)
@given(
    st.one_of(
        st.text(),
        st.text(alphabet="ab ()[]:|1.5-\\\n"),
        st.lists(st.sampled_from(["AND", "BREAK", " ", ":1.5", "[a:b:1]", "(", ")", "\\"])).map("".join),
    )
)
def test_as_a1111s_prompt_it_says_the_same(prompt: str) -> None:
    (part,) = schedule.parse(comfyui.as_a1111(prompt))
    assert part.weight == 1.0
    (group,) = emphasis.parse(part.at(0, schedule.Timeline(1))).groups
    joined: list[Span] = []
    for span in comfyui.parse(prompt):
        if joined and joined[-1].weight == span.weight:
            joined[-1] = Span(joined[-1].text + span.text, span.weight)
        else:
            joined.append(span)
    assert list(group) == joined
    assert comfyui.spoken(prompt) == "".join(span.text for span in group)


def test_brackets_nested_without_end_are_text_from_a_depth_on() -> None:
    (span,) = comfyui.parse("(" * 20_000 + "a" + ")" * 20_000)
    assert span.text == "(" * 19_950 + "a" + ")" * 19_950
    assert span.weight == pytest.approx(1.1**50)


def test_no_weight_becomes_infinite_in_brackets() -> None:
    text = comfyui.as_a1111("(" + "(" * 49 + "x" + ")" * 49 + ":1.7e308)")
    ((span,),) = emphasis.parse(text).groups
    assert span == Span("x", emphasis.MOST_WEIGHT)
