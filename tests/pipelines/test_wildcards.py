"""Choices in prompts: drawn from the seed, complete, and never left in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from composer.errors import BadRequest
from pipelines.wildcards import expand


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clothes").mkdir()
    (tmp_path / "clothes" / "hat.txt").write_text("red hat\nblue {silk|felt} hat\n")
    return tmp_path


def test_every_choice_comes_and_a_seed_repeats_its_own() -> None:
    found = [expand("a {cat|dog|owl} (here:1.2) [x|y] <lora:z:0.5>", seed, None) for seed in range(40)]
    assert set(found) == {f"a {one} (here:1.2) [x|y] <lora:z:0.5>" for one in ("cat", "dog", "owl")}
    assert found == [expand("a {cat|dog|owl} (here:1.2) [x|y] <lora:z:0.5>", seed, None) for seed in range(40)]


def test_wildcards_are_read_from_a_folder(folder: Path) -> None:
    found = {expand("__clothes/hat__", seed, folder) for seed in range(40)}
    assert found == {"red hat", "blue silk hat", "blue felt hat"}


@pytest.mark.parametrize("prompt", ["plain, text", "# no choices", "a_b __ c", "\\(x\\)", ""])
def test_a_prompt_without_choices_stays_as_it_is(prompt: str) -> None:
    assert expand(prompt, 0, None) == prompt


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("__clothes/hut__", "'clothes/hat'"),
        ("a {b", "character 3"),
        ("{a|b} # c", "comment"),
    ],
)
def test_what_cannot_be_read_is_an_error(prompt: str, told: str, folder: Path) -> None:
    with pytest.raises(BadRequest) as raised:
        expand(prompt, 0, folder)
    assert told in str(raised.value)


def test_a_wildcard_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="--wildcards"):
        expand("__hat__", 0, None)
    with pytest.raises(BadRequest, match="no such folder"):
        expand("__hat__", 0, tmp_path / "nowhere")
