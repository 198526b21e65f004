"""The published testbed: its sets and prompts against counts and texts that the paper's release gives."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml

from composer.errors import UnknownChoice
from eval import suites
from eval.errors import BadSuite
from eval.suites import composlora


def write(path: Path, **content: object) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def test_480_sets_240_of_each_family() -> None:
    found = Counter((family, len(members)) for family, members in composlora.identifiers())
    assert found == {(f, n): c for f in ("anime", "reality") for n, c in {2: 24, 3: 72, 4: 96, 5: 48}.items()}


def test_the_prompt_is_prefix_and_all_triggers() -> None:
    assert composlora.prompt("anime", ("character_2", "object_2")) == (
        "masterpiece, best quality, omertosa, 1girl, wolf ears, long hair, toast, toast in mouth"
    )


def test_mapped_loras_make_sets(tmp_path: Path) -> None:
    (tmp_path / "nezuko.safetensors").touch()
    loras = {"anime/character_1": "nezuko.safetensors", "anime/object_2": "toast", "anime/style_1": "lines"}
    mapped = write(tmp_path / "map.yaml", models={"anime": "model"}, loras=loras, negative={"anime": "lowres"})
    found = suites.load("composlora", mapped)
    assert [one.key for one in found.sets] == [
        "anime/character_1+style_1",
        "anime/character_1+object_2",
        "anime/character_1+style_1+object_2",
    ]
    assert "477 of 480 left out" in found.about
    one = found.sets[1]
    assert [(use.lora, use.weight) for use in one.members] == [
        (str(tmp_path / "nezuko.safetensors"), 0.8),
        ("toast", 0.8),
    ]
    assert one.text == "kamado nezuko, black hair, pink eyes, forehead, toast, toast in mouth"
    assert (one.negative, one.settings.model, one.settings.num_inference_steps) == ("lowres", "model", 200)
    assert one.settings.prompt_syntax == "plain"


def test_wrong_maps_are_told(tmp_path: Path) -> None:
    wrong = write(tmp_path / "a.yaml", models={"anime": "m"}, loras={"anime/caracter_1": "x"})
    with pytest.raises(UnknownChoice, match="did you mean 'anime/character_1'"):
        suites.load("composlora", wrong)
    with pytest.raises(BadSuite, match="no model for them"):
        suites.load("composlora", write(tmp_path / "b.yaml", models={}, loras={"anime/character_1": "x"}))
    with pytest.raises(BadSuite, match="no set of the testbed"):
        suites.load("composlora", write(tmp_path / "c.yaml", models={"anime": "m"}, loras={"anime/character_1": "x"}))
