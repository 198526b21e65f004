"""Users' own suites: what a file means, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from composer.errors import UnknownChoice
from eval import suites
from eval.errors import BadSuite

TEXT = """
name: mine
settings: {model: tiny, num_inference_steps: 4}
prefix: best quality
members:
  hero: {lora: hero.safetensors, category: character, triggers: [hero, red cape], weight: 0.7}
  ink: {lora: neon, category: style, triggers: [ink style]}
sets:
  - members: [hero, ink]
  - {members: [hero, ink], prompt: a hero by the sea, key: sea, group: outdoors, negative: blurry}
"""


def test_a_file_is_a_suite(tmp_path: Path) -> None:
    (tmp_path / "hero.safetensors").touch()
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT)
    found = suites.load(str(path))
    first, second = found.sets
    assert (first.key, first.prompt) == ("hero+ink", "best quality, hero, red cape, ink style")
    assert (second.key, second.prompt, second.group, second.negative) == (
        "sea",
        "a hero by the sea",
        "outdoors",
        "blurry",
    )
    assert [one.lora for one in first.members] == [str(tmp_path / "hero.safetensors"), "neon"]
    assert first.text == "hero, red cape, ink style" and not found.drawn and not found.regional


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("[hero, ink]\n", "[hero, inc]\n", "did you mean 'ink'"),
        ("key: sea", "key: hero+ink", "several sets are called hero"),
        ("prefix:", "prefiks:", "unknown key 'prefiks'; did you mean 'prefix'"),
        ("sets:", "sets: [", "not YAML"),
        ("num_inference_steps: 4", "num_inference_steps: 0", "greater than or equal to 1"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, before: str, after: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT.replace(before, after, 1))
    with pytest.raises((BadSuite, UnknownChoice), match=message):
        suites.load(str(path))
