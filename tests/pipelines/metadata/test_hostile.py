"""Metadata made to hurt: each is a typed error or a remark, soon, and never a traceback."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_zoo.errors import ZooError
from pipelines import images
from pipelines.errors import BadMetadata, NoRecord
from pipelines.metadata import exif, readers
from pipelines.metadata.found import Found
from tests.pipelines.metadata.samples import COMFYUI, WORKFLOW, chunks, png

SETTINGS = "\nSteps: 9, Seed: 1, Size: 8x8"
REFUSED: dict[str, Mapping[str, str]] = {
    "nested lists": {"prompt": '{"a":' + "[" * 100_000},
    "nested objects in workflow": {"workflow": '{"nodes":' + '{"a":' * 500 + "1" + "}" * 501},
    "huge": {"prompt": '{"a": "' + "x" * 4_000_001 + '"}'},
    "huge text": {"parameters": "x" * 4_000_001},
    "huge line of settings": {"parameters": "x\nSteps: 1, " + "a b: 1, " * 100_000},
    "no JSON": {"invokeai_metadata": "{'a': 1}"},
    "a list": {"invokeai_metadata": "[]"},
    "no objects": {"prompt": '{"1": 5}'},
    "no class": {"prompt": '{"1": {"inputs": {}}}'},
    "prompt that is a number": {"invokeai_metadata": '{"positive_prompt": 7}'},
    "LoRA without a model": {"invokeai_metadata": '{"loras": [{"weight": 1}]}'},
    "LoRA of one part": {"parameters": '{"base_model": "m", "loras": [["a"]]}'},
    "unknown JSON": {"parameters": '{"a": 1}'},
    "many LoRAs": {"parameters": "".join(f"<lora:a{n}:1>" for n in range(101)) + SETTINGS},
    "many nodes": {"prompt": json.dumps({str(n): {"class_type": "x", "inputs": {}} for n in range(5001)})},
    "short link": {"workflow": '{"nodes": [], "links": [[1, 2]]}'},
    "enormous number": {"prompt": '{"1": ' + "9" * 5000 + "}"},
}


@pytest.mark.parametrize("texts", REFUSED.values(), ids=REFUSED)
def test_what_no_tool_writes_is_refused(texts: Mapping[str, str]) -> None:
    started = time.process_time()
    with pytest.raises(BadMetadata) as raised:
        readers.read(texts)
    assert time.process_time() - started < 2.0
    assert len(str(raised.value)) < 400
    assert str(raised.value).isprintable()


SLOW = {
    "open tags": "<a:" * 300_000 + SETTINGS,
    "commas": "x\n" + "," * 190_000,
    "colons": "x\n" + "aa: " * 40_000 + ", a: 1",
    "open lists": "x\n" + "aa: [1," * 25_000,
    "open quotes": "x\n" + 'aa: "\\",' * 20_000,
    "words": "x\n" + "a" * 190_000,
    "lines": "\n" * 1_000_000 + SETTINGS,
}


@pytest.mark.parametrize("text", SLOW.values(), ids=SLOW)
def test_texts_that_make_scanners_slow_do_not(text: str) -> None:
    started = time.process_time()
    assert readers.read({"parameters": text}) is not None
    assert time.process_time() - started < 5.0


def test_graphs_that_go_round_in_circles_end() -> None:
    loop = {"class_type": "LoraLoader", "inputs": {"model": ["2", 0], "lora_name": ["2", 0]}}
    graph = COMFYUI | {"2": loop, "9": {"class_type": "P", "inputs": {"value": ["9", 0]}}}
    found = readers.read({"prompt": json.dumps(graph)})
    assert found is not None
    assert any("positive prompt" in remark for remark in found.unresolved)
    off = json.loads(json.dumps(WORKFLOW))
    off["nodes"][1]["mode"] = 4
    found = readers.read({"workflow": json.dumps(off)})
    assert found is not None
    assert (found.loras, found.model) == ((), "harbour")
    assert found.unresolved == ("node 'LoraLoader' is switched off",)


def test_numbers_out_of_range_are_remarks() -> None:
    line = "Steps: 5000, Seed: -2, CFG scale: 0.2, Size: 9999x0, Sampler: \x1b[31mred, Denoising strength: 0.4"
    found = readers.read({"parameters": f"x <lora:a:nan> <lora:b:1e9>\n{line}"})
    assert found is not None
    assert (found.steps, found.seed, found.guidance_scale, found.width, found.height) == (None,) * 5
    assert [one.weight for one in found.loras] == [None, None]
    assert len(found.unresolved) >= 9
    assert all(remark.isprintable() for remark in found.unresolved)


def test_remarks_end_somewhere() -> None:
    found = readers.read({"parameters": "x\n" + ", ".join(f"Key {n}: {n}" for n in range(500))})
    assert found is not None
    assert len(found.unresolved) == 61


def test_halves_of_characters_do_not_come_in() -> None:
    with pytest.raises(BadMetadata, match="half of a character"):
        readers.read({"invokeai_metadata": '{"positive_prompt": "a\\ud800b", "loras": []}'})
    found = readers.read({"parameters": "a\ud800b" + SETTINGS})  # as no file can hold it
    assert found is not None
    assert found.prompt == "a?b"


@pytest.mark.parametrize(
    "block",
    [
        b"Exif\0\0nothing",
        b"MM\0*\0\0\0\x08",
        b"MM\0*" + struct.pack(">IH", 8, 65535),
        b"MM\0*" + struct.pack(">IHHHII", 8, 1, 0x9286, 7, 2**31, 8),
        b"MM\0*" + struct.pack(">IHHHII", 8, 1, 0x8769, 4, 1, 2**31),
    ],
)
def test_broken_exif_is_refused(block: bytes) -> None:
    with pytest.raises(BadMetadata, match="EXIF"):
        exif.read(block)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_exif_or_a_typed_error(data: bytes) -> None:
    for block in (data, b"II*\0" + data, b"MM\0*\0\0\0\x08" + data):
        try:
            assert isinstance(exif.read(block), dict)
        except BadMetadata as error:
            assert str(error).startswith("the picture's EXIF")


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.just(["1", 0])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_value_in_any_place_is_read_or_a_typed_error(data: st.DataObject) -> None:
    tool = data.draw(st.sampled_from(["fooocus", "invokeai", "comfyui", "workflow"]))
    name, text = next(iter(chunks(tool).items()))
    stated = json.loads(text)
    place = stated
    while isinstance(place, dict | list) and place:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            place[key] = data.draw(JSON)
            break
        place = place[key]
    try:
        assert isinstance(readers.read({name: json.dumps(stated)}), Found)
    except ZooError as error:
        assert "the picture's" in str(error)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_any_text_is_read_or_a_typed_error(text: str) -> None:
    for whole in (text, f"{text}{SETTINGS}", f"x{SETTINGS}, {text}"):
        try:
            assert isinstance(readers.read({"parameters": whole}), Found)
        except BadMetadata as error:
            assert "the picture's" in str(error)


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    whole = png(tmp_path / "b.png", **chunks("a1111")).read_bytes()
    bomb = whole[:16] + struct.pack(">II", 2**31 - 1, 2**31 - 1) + whole[24:]
    for data in (b"", whole[:20], whole[:60], bomb, b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"\0\0\0\x18ftypavif"):
        path.write_bytes(data)
        with pytest.raises(NoRecord):
            images.read(path)
