"""No pattern that runs over a stranger's text takes time that grows with more than its length.

Texts are so long that with the square of it a test would take minutes for a single one.
"""

from __future__ import annotations

import re
from importlib import import_module

import pytest

_MODULES = (
    *(f"composer.prompting.{name}" for name in ("comfyui", "emphasis", "schedule", "staged", "tags")),
    *(
        f"pipelines.metadata.{name}"
        for name in ("a1111", "a1111_hires", "a1111_text", "comfyui", "fooocus", "infotext", "limits", "matching")
    ),
    "lora_zoo.foreign.documents",
)
#: Patterns that a whole text is held against, never sought in one.
_WHOLE = ("_NUMBER", "_SIZE", "_KEY", "_VERSION")
_LENGTH = 100_000
_PIECES = (
    ":1",
    "1",
    ": ",
    " ",
    "\n",
    "\t",
    ":",
    "(",
    "[",
    "\\",
    "BREAK ",
    "AND ",
    "a",
    "1.",
    "+",
    "<",
    "<a:",
    "<lora:",
)
_MORE = (
    "< ",
    "<lora",
    "<lora ",
    "_",
    "Steps",
    "Steps: ",
    "x",
    "1 x",
    ",",
    '"',
    "{",
    "Template:",
    "é",
    "0:",
    "embedding:",
)


def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    return [
        (f"{module}.{name}", value)
        for module in _MODULES
        for name, value in vars(import_module(module)).items()
        if isinstance(value, re.Pattern)
    ]


@pytest.mark.sampled(6)
@pytest.mark.parametrize(("name", "pattern"), _patterns(), ids=[name for name, _ in _patterns()])
def test_time_grows_with_the_length_only(name: str, pattern: re.Pattern[str]) -> None:
    whole = name.rpartition(".")[2] in _WHOLE
    for piece in (*_PIECES, *_MORE):
        text = piece * (_LENGTH // len(piece))
        for made in (text, f"{text}!", f"!{text}\0", f":{text}", f"<lora:{text}"):
            found = [pattern.fullmatch(made)] if whole else pattern.finditer(made)
            assert sum(1 for match in found if match) <= len(made) + 1
