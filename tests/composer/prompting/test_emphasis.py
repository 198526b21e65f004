"""Emphasis: the weights that A1111's documentation gives, and what holds for every text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.prompting.emphasis import MOST_WEIGHT, Span, escape, parse

#: Prompt -> (text, weight) of its spans.
PUBLISHED = {
    "normal text": [("normal text", 1.0)],
    "an (important) word": [("an ", 1.0), ("important", 1.1), (" word", 1.0)],
    "((word))": [("word", 1.21)],
    "[word]": [("word", 1 / 1.1)],
    "(word:1.5)": [("word", 1.5)],
    "(word:0.25)": [("word", 0.25)],
    "(word: .5 )": [("word", 0.5)],
    "(word:-1)": [("word", -1.0)],
    r"\(word\)": [("(word)", 1.0)],
    r"\(literal\]": [("(literal]", 1.0)],
    "(unbalanced": [("unbalanced", 1.1)],
    "unbalanced)": [("unbalanced)", 1.0)],
    "a:1.2)": [("a:1.2)", 1.0)],
    "(unnecessary)(parens)": [("unnecessaryparens", 1.1)],
    "(a [b)c]": [("a ", 1.1), ("b", 1.0), ("c", 1 / 1.1)],
    "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).": [
        ("a ", 1.0),
        ("house", 1.573),
        (" ", 1.1),
        ("on", 1.0),
        (" a ", 1.1),
        ("hill", 0.55),
        (", sun, ", 1.1),
        ("sky", 1.4641),
        (".", 1.1),
    ],
    "": [],
}


@pytest.mark.parametrize("prompt", PUBLISHED)
def test_published_weights(prompt: str) -> None:
    (group,) = parse(prompt).groups
    assert [span.text for span in group] == [text for text, _ in PUBLISHED[prompt]]
    assert [span.weight for span in group] == pytest.approx([weight for _, weight in PUBLISHED[prompt]])


def test_break_parts_groups_inside_of_brackets_too() -> None:
    assert parse("a BREAK b").groups == ((Span("a"),), (Span("b"),))
    assert parse("(a BREAK b:2) c").groups == ((Span("a", 2.0),), (Span("b", 2.0), Span(" c")))
    assert parse("BREAK").groups == ((), ())
    assert parse("BREAKFAST").groups == ((Span("BREAKFAST"),),)


def test_what_is_never_closed_is_told_with_its_place() -> None:
    assert parse("a (b").notices == (
        "the '(' at character 3 of the prompt is never closed; it weighs all that follows",
    )
    assert len(parse("([").notices) == 2
    assert parse("(a) [b] \\(").notices == ()


@settings(deadline=None)
@given(st.text())
def test_an_escaped_text_reads_as_itself(text: str) -> None:
    plain = text.replace("BREAK", "")
    assert "".join(span.text for group in parse(escape(plain)).groups for span in group) == plain
    assert all(span.weight == 1.0 for group in parse(escape(plain)).groups for span in group)


@settings(deadline=None)
@given(st.text(alphabet="ab ()[]:1.\\"))
def test_every_text_is_a_prompt_and_keeps_its_letters(text: str) -> None:
    parsed = parse(text)
    letters = "".join(one for one in parsed.text if one in "ab")
    assert letters == "".join(one for one in text if one in "ab")
    assert all(span.text for group in parsed.groups for span in group)


@settings(deadline=None)
@given(st.lists(st.sampled_from("([")), st.floats(0.1, 2).map(lambda w: round(w, 2)))
def test_nested_weights_multiply(brackets: list[str], weight: float) -> None:
    text, expected = f"(x:{weight})", weight
    for bracket in brackets:
        text = f"({text})" if bracket == "(" else f"[{text}]"
        expected *= 1.1 if bracket == "(" else 1 / 1.1
    ((span,),) = parse(text).groups
    assert span.weight == pytest.approx(expected)


@pytest.mark.parametrize("text", ["(" * 20_000, "(" * 300 + "a" + ")" * 300, "[" * 300 + "a" + ":1.5)" * 300])
def test_brackets_nested_deeper_than_a_hundred_are_text(text: str) -> None:
    found = parse(text)
    assert len(found.text) >= len(text) - 1_000
    assert all(span.weight <= 1.1**100 * 1.0001 for group in found.groups for span in group)


def test_weights_of_brackets_within_the_depth_hold() -> None:
    (group,) = parse("(" * 100 + "a" + ")" * 100).groups
    assert (group[0].text, group[0].weight) == ("a", pytest.approx(1.1**100))
    (group,) = parse("(" * 101 + "a" + ")" * 101 + "b").groups
    assert [span.text for span in group] == ["(a)", "b"]


NINES = "9" * 400


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        (f"(x:{NINES})", MOST_WEIGHT),
        (f"(x:-{NINES})", -MOST_WEIGHT),
        (f"(999:{NINES}.{NINES})", MOST_WEIGHT),
        (f"((x:{NINES}):{NINES})", MOST_WEIGHT),
        (f"((x:{NINES}):-{NINES})", -MOST_WEIGHT),
        ("(" * 100 + "x" + ":99999)" * 100, MOST_WEIGHT),
        ("(x:100001)", MOST_WEIGHT),
    ],
)
def test_no_weight_is_infinite_and_one_too_great_is_told(text: str, weight: float) -> None:
    found = parse(text)
    ((span,),) = found.groups
    assert span.weight == weight
    (told,) = found.notices
    assert told == f"the prompt gives '{span.text}' too great a weight; it counts as 100,000, the most that there is"


def test_weights_that_are_not_too_great_stay_as_they_are() -> None:
    assert parse("(x:100000)").groups == ((Span("x", MOST_WEIGHT),),) and not parse("(x:100000)").notices
    ((span,),) = parse("((x:2000000):0.01)").groups  # only what it comes to counts
    assert span.weight == pytest.approx(20_000.0)
    ((span,),) = parse(f"((x:{NINES}):0)").groups
    assert span.weight == 0.0
