"""Which words of a prompt belong to which LoRA."""

from __future__ import annotations

import pytest

from composer import words
from composer.errors import BadRequest

PROMPT = "Zorp the one-eyed  alien, wearing a striped vest, in a meadow"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (("zorp", "one-eyed alien"), ("zorp", "one-eyed alien")),
        (("striped vest", "quill", "striped vest"), ("striped vest",)),
        (("eye", "eyed ali", "mead"), ()),
        (("", " ", "zorp"), ("zorp",)),
        (("eyed alien", "vest"), ("eyed alien", "vest")),
        ((), ()),
    ],
)
def test_words_are_found_whole(wanted: tuple[str, ...], found: tuple[str, ...]) -> None:
    assert words.found(PROMPT, wanted) == found


@pytest.mark.parametrize(
    ("taken", "left"),
    [
        (("zorp", "one-eyed alien"), "the, wearing a striped vest, in a meadow"),
        (("vest", "wearing a striped vest"), "Zorp the one-eyed alien, in a meadow"),
        (("(", "."), "Zorp the one-eyed alien, wearing a striped vest, in a meadow"),
    ],
)
def test_words_are_taken_out(taken: tuple[str, ...], left: str) -> None:
    assert words.without(PROMPT, taken) == left


def test_all_of_a_prompt_may_be_taken_out() -> None:
    assert words.without("vest, vest", ("vest",)) == ""


def test_signs_in_words_are_themselves() -> None:
    assert words.found("a (cat:1.2) in c++", ("cat", "c++", "c..", "(cat:1.2)")) == ("cat", "c++", "(cat:1.2)")


@pytest.mark.parametrize(
    ("own", "triggers", "message"),
    [
        (("zorb",), (), "'zorp': the prompt does not hold its words 'zorb'; did you mean 'Zorp'"),
        (("zorp", "stripped vest"), (), "its words 'stripped vest'; did you mean 'striped vest'"),
        ((), ("quill", "spiky star"), "its trigger words are not in the prompt: 'quill', 'spiky star'"),
        ((), (), "its file names no trigger words"),
    ],
)
def test_what_is_missing_is_told(own: tuple[str, ...], triggers: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadRequest, match=message.replace("(", r"\(")):
        words.check(PROMPT, "zorp", own, triggers)
    words.check(PROMPT, "zorp", ("zorp", "alien"), triggers)
