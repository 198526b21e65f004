"""Prompts that change over the steps: the examples of A1111's documentation, and what holds for every text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.prompting.schedule import MOST_WEIGHT, Part, Timeline, changing, parse, parse_one

#: Prompt -> (last step it holds for, text), for ten steps counted from 1.
PUBLISHED = {
    "test": [(10, "test")],
    "a [b:3]": [(3, "a "), (10, "a b")],
    "a [b: 3]": [(3, "a "), (10, "a b")],
    "a [[[b]]:2]": [(2, "a "), (10, "a [[b]]")],
    "[(a:2):3]": [(3, ""), (10, "(a:2)")],
    "a [b : c : 1] d": [(1, "a b  d"), (10, "a  c  d")],
    "a[b:[c:d:2]:1]e": [(1, "abe"), (2, "ace"), (10, "ade")],
    "a [unbalanced": [(10, "a [unbalanced")],
    "a [b:.5] c": [(5, "a  c"), (10, "a b c")],
    "a [b::0.3]": [(3, "a b"), (10, "a ")],
    "((a][:b:c [d:3]": [(3, "((a][:b:c "), (10, "((a][:b:c d")],
    "[fe|]male": [(1, "female"), (2, "male"), (3, "female"), (4, "male"), (5, "female")],
    "[fe|||]male": [(1, "female"), (4, "male"), (5, "female"), (8, "male"), (9, "female"), (10, "male")],
    "[a|(b:1.1)]": [(1, "a"), (2, "(b:1.1)"), (3, "a")],
    "[a:b:20]": [(10, "a")],
    "[a:b:0]": [(10, "b")],
    "[a:b]": [(10, "[a:b]")],
    "[a:b|c]": [(10, "[a:b|c]")],
    "[a:b:c:3]": [(10, "[a:b:c:3]")],
    "a|b [c:d:2]": [(2, "a|b c"), (10, "a|b d")],
    r"\[a:b:3\]": [(10, r"\[a:b:3\]")],
}


@pytest.mark.parametrize("prompt", PUBLISHED)
def test_published_schedules(prompt: str) -> None:
    (part,) = parse(prompt)
    first = 0
    for last, text in PUBLISHED[prompt]:
        assert {part.at(index, Timeline(10)) for index in range(first, last)} == {text}
        first = last


def test_and_joins_weighted_prompts() -> None:
    parts = parse("a cat :1.2 AND [a:b:1] dog AND a penguin :2.2 ")
    assert [part.weight for part in parts] == [1.2, 1.0, 2.2]
    assert [part.at(0, Timeline(2)).strip() for part in parts] == ["a cat", "a dog", "a penguin"]
    assert parts[1].at(1, Timeline(2)).strip() == "b dog"
    assert len(parse("SAND AND LAND")) == 2
    assert parse_one("this AND that") == Part(("this AND that",))


def test_a_weight_of_hundreds_of_digits_stays_a_number_that_can_be_told() -> None:
    assert [part.weight > MOST_WEIGHT for part in parse(f"a AND b:{'9' * 400} AND c:1000")] == [False, True, False]


@settings(deadline=None)
@given(st.text(alphabet="ab ()[]:|1.5\\{"), st.integers(1, 12))
def test_every_text_is_a_prompt_for_every_step(text: str, count: int) -> None:
    for index in range(count):
        found = parse_one(text).at(index, Timeline(count))
        assert len(found) <= len(text)


@settings(deadline=None)
@given(st.text().filter(lambda text: "[" not in text))
def test_a_text_without_square_brackets_stays_as_it_is(text: str) -> None:
    assert parse_one(text).at(0, Timeline(1)) == text


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 30))
def test_a_share_and_a_number_of_steps_agree(count: int, when: int) -> None:
    numbered = parse_one(f"[a:b:{when}]")
    assert [numbered.at(index, Timeline(count)) for index in range(count)] == [
        "a" if index < when else "b" for index in range(count)
    ]
    half = parse_one("[a:b:0.5]")
    assert [half.at(index, Timeline(count)) for index in range(count)].count("a") == count // 2


#: A1111's own rule since 1.6 (modules/prompt_parser.py): prompt, pass -> the step at which it changes.
@pytest.mark.parametrize(
    ("prompt", "first", "second"),
    [
        ("[a:b:0.5]", "aaaaabbbbb", "bbbb"),
        ("[a:b:1.25]", "aaaaaaaaaa", "abbb"),
        ("[a:b:1.0]", "aaaaaaaaaa", "bbbb"),
        ("[a:b:2.0]", "aaaaaaaaaa", "aaaa"),
        ("[a:b:7]", "aaaaaaabbb", "bbbb"),
        ("[a:b:12]", "aaaaaaaaaa", "aabb"),
        ("[a:b:20]", "aaaaaaaaaa", "aaaa"),
        ("[a:[b:c:12]:0.5]", "aaaaabbbbb", "bbcc"),
        ("[a|b]", "ababababab", "abab"),
    ],
)
def test_a_prompt_goes_on_over_two_passes(prompt: str, first: str, second: str) -> None:
    part = parse_one(prompt)
    assert "".join(part.at(index, Timeline(10)) for index in range(10)) == first
    assert "".join(part.at(index, Timeline(4, earlier=10)) for index in range(4)) == second


def test_a_second_pass_behind_none() -> None:
    part = parse_one("[a:b:1]")  # as after a first pass whose strength does no step
    assert [part.at(index, Timeline(2, earlier=0)) for index in range(2)] == ["a", "b"]


@settings(deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 40), st.sampled_from(["0.0", "0.33", "0.999", "1.0", "1.5", "1.99", "3", "17"])
)
def test_two_passes_are_those_of_a1111(base: int, hires: int, when: str) -> None:
    def switch(steps: int, integers: int, floats: float) -> int:  # as its collect_steps does
        value = (float(when) - floats) * steps if "." in when else float(when) - integers
        return min(steps, int(value))

    part = parse_one(f"[a:b:{when}]")
    for steps, timeline, at in (
        (base, Timeline(base), switch(base, 0, 0.0)),
        (hires, Timeline(hires, earlier=base), switch(hires, base, 1.0)),
    ):
        found = [part.at(index, timeline) for index in range(steps)]
        assert found == ["a" if index + 1 <= at else "b" for index in range(steps)]


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("x [a:b:0.5] [c] [d|e]", ["[a:b:0.5]", "[d|e]"]),
        ("[a [b:c:2]:d:0.5]", ["[a [b:c:2]:d:0.5]", "[b:c:2]"]),
        ("[a:b] (c:1.2) [d|e", []),
        ("plain", []),
    ],
)
def test_where_a_prompt_changes_is_told(prompt: str, found: list[str]) -> None:
    assert sorted(prompt[start : end + 1] for start, end in changing(prompt)) == sorted(found)


@pytest.mark.parametrize(
    ("outside", "count", "changes"),
    [("(", 40, True), ("(", 70, False), ("[", 49, True), ("[", 50, False), ("[", 20_000, False)],
)
def test_brackets_nested_deeper_than_fifty_are_text(outside: str, count: int, changes: bool) -> None:
    closing = {"(": ")", "[": "]"}[outside] * count
    prompt = f"{outside * count}[a:b:0.5]{closing}"
    found = parse_one(prompt).at(0, Timeline(2))
    assert found == (prompt.replace("[a:b:0.5]", "a") if changes else prompt)
