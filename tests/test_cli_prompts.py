"""Prompts on the command line: tags, choices and plain text, as a dry run shows them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.cli import main


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict]:
    assert main(["render", *arguments, "--dry-run", "--json"]) == 0
    return json.loads(capsys.readouterr().out)["requests"]


def test_a_tag_is_a_lora(capsys: pytest.CaptureFixture[str]) -> None:
    (one,) = planned(capsys, "--prompt", "zorp <lora:zorp:0.5:0.75>")
    assert one["prompt"] == "zorp "
    assert [(use["name"], use["text_encoder_weight"], use["weight"]) for use in one["adapters"]] == [
        ("zorp", 0.5, 0.75)
    ]


def test_choices_are_made_for_each_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "place.txt").write_text("meadow\n")
    typed = ("--prompt", "{a|b} in __place__", "--wildcards", str(tmp_path), "--count", "12")
    made = [one["prompt"] for one in planned(capsys, *typed)]
    assert set(made) == {"a in meadow", "b in meadow"}
    assert made == [one["prompt"] for one in planned(capsys, *typed)]


def test_plain_prompts_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    text = "{a|b} __x__ <lora:nobody:1> (c"
    (one,) = planned(capsys, "--prompt", text, "--syntax", "plain")
    assert (one["prompt"], one["adapters"]) == (text, [])


def test_and_costs_a_pass_for_each_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    costs = []
    for text in ("a", "a AND b :0.5"):
        assert main(["render", "--prompt", text, "--steps", "4", "--dry-run", "--json"]) == 0
        costs.append(json.loads(capsys.readouterr().out)["unet_passes"])
    assert costs == [4, 8]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--prompt", "<lora:zrop:1>"), "'zorp'"),
        (("--prompt", "__hat__"), "--wildcards"),
        (("--prompt", "x", "--syntax", "compel"), "'a1111'"),
        (("--prompt", "<lora:zorp:1:lbw=1,2>"), "weights by block"),
    ],
)
def test_mistakes_are_told(arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", *arguments, "--dry-run"]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("y", "notice: LoRA 'zorp': the prompt does not hold its words 'y', so that they decide nothing\n"),
        ("hat,y", "notice: LoRA 'zorp': the prompt does not hold its words 'y', so that they decide nothing\n"),
        ("hat", ""),
    ],
)
def test_words_that_the_prompt_does_not_hold_are_told(
    words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["--prompt", "zorp, hat", "--lora", "zorp", "--words", f"zorp={words}", "--count", "2"]
    assert main(["render", *typed, "--dry-run"]) == 0
    assert capsys.readouterr().err == told
