"""Sidecars as tools have written them over the years, full, half empty and by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_zoo.index import sidecars
from lora_zoo.index.sidecars import Beside

CASES: dict[str, tuple[str, object, Beside]] = {
    "A1111, filled in": (
        ".json",
        {
            "description": "A girl",
            "sd version": "SDXL",
            "activation text": "al1ce,  blue dress,",
            "preferred weight": 0.7,
            "negative text": "hat",
            "notes": "",
        },
        Beside(("al1ce", "blue dress"), 0.7, None, "sdxl", "A girl"),
    ),
    "A1111, saved without a word": (
        ".json",
        {
            "description": "",
            "sd version": "Unknown",
            "activation text": "",
            "preferred weight": 0.0,
            "negative text": "",
            "notes": "",
        },
        Beside(),
    ),
    "A1111, from before it had trigger words": (".json", {"description": "old"}, Beside(description="old")),
    "Lora-Manager": (
        ".metadata.json",
        {
            "file_name": "alice",
            "sha256": "ab" * 32,
            "base_model": "SD 1.5",
            "usage_tips": '{"strength_min": 0.4, "strength_max": 0.9, "strength": 0.6}',
            "civitai": {"id": 1, "trainedWords": ["al1ce", "blue dress"]},
            "modelDescription": "A girl",
        },
        Beside(("al1ce", "blue dress"), 0.6, (0.4, 0.9), "sd15", "A girl", civitai_version=1),
    ),
    "Lora-Manager, nothing found at CivitAI": (
        ".metadata.json",
        {"base_model": "Unknown", "usage_tips": "", "civitai": None, "modelDescription": None},
        Beside(),
    ),
    "Lora-Manager, older: empty objects": (
        ".metadata.json",
        {"base_model": "Pony", "usage_tips": "{}", "civitai": {}},
        Beside(family="sdxl"),
    ),
    "a range the wrong way round": (
        ".metadata.json",
        {"usage_tips": {"strength_min": 1, "strength_max": 0.2}, "civitai": {"trainedWords": None}},
        Beside(),
    ),
    "a CivitAI helper": (
        ".civitai.info",
        {
            "id": 2,
            "modelId": 1,
            "name": "v1",
            "trainedWords": ["al1ce", "al1ce, hat"],
            "baseModel": "SDXL 1.0",
            "description": "<p>A girl</p>",
            "files": [{"hashes": {"AutoV2": "0123456789"}}],
        },
        Beside(("al1ce", "hat"), None, None, "sdxl", "<p>A girl</p>", civitai_version=2),
    ),
    "a CivitAI helper, for what is not there any more": (
        ".civitai.info",
        {"trainedWords": [], "baseModel": None, "description": None},
        Beside(),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_form_is_read(case: str, tmp_path: Path) -> None:
    ending, content, wanted = CASES[case]
    path = tmp_path / f"alice{ending}"
    path.write_text(json.dumps(content))
    assert sidecars.read({ending: path}) == wanted


def test_the_users_own_word_comes_first(tmp_path: Path) -> None:
    beside: dict[str, Path] = {}
    for name in ("A1111, filled in", "Lora-Manager", "a CivitAI helper"):
        ending, content, _ = CASES[name]
        beside[ending] = tmp_path / f"alice{ending}"
        beside[ending].write_text(json.dumps(content))
    assert sidecars.read(beside) == Beside(("al1ce", "blue dress"), 0.7, (0.4, 0.9), "sdxl", "A girl", 1)


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        (".json", b"[]"),
        (".json", b"\xff\xfe"),
        (".metadata.json", b'{"civitai": 3}'),
        (".metadata.json", b'{"usage_tips": "{"}'),
        (".civitai.info", b'{"trainedWords": "al1ce"}'),
        (".civitai.info", b" " * ((4 << 20) + 1)),
    ],
)
def test_one_that_cannot_be_read_costs_what_it_says_and_is_told(ending: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"alice{ending}"
    path.write_bytes(content)
    found = sidecars.read({ending: path})
    assert found == Beside(notes=found.notes)
    (note,) = found.notes
    assert note.startswith(f"sidecar *{ending}: ")
