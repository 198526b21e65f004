"""Pictures of other tools are read into the same few facts, and whatever is not taken is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from composer.record import RenderRecord
from pipelines import images
from pipelines.errors import NoRecord
from pipelines.metadata import exif, readers, samplers
from pipelines.metadata.found import Found, FoundLora
from tests.pipelines.metadata.samples import COMFYUI, FOOOCUS, INVOKEAI, PIXELS, chunks, png

SALT = FoundLora("salt", 0.7, 0.7, "0123456789ab")
EXPECTED: dict[str, dict[str, Any]] = {
    "a1111": {
        "prompt": "a lighthouse at dusk, (stormy sea:1.2)  \nsecond line",
        "negative_prompt": 'people, "boats"',
        "scheduler": "dpmpp_2m_karras",
        "loras": (SALT, FoundLora("foam v2", 1.1, 0.4, "ba9876543210", "OUTD")),
        "model": "harbour_v3",
        "model_hash": "0a1b2c3d4e",
        "unresolved": ("Clip skip: '2'", "ADetailer prompt: 'a, b: c'"),
    },
    "fooocus": {
        "prompt": "a lighthouse, cinematic still",
        "seed": 77,
        "height": 1152,
        "scheduler": "dpmpp_sde",
        "loras": (FoundLora("salt", 0.6, 0.6, "0123456789"),),
        "model_hash": "0a1b2c3d4e",
    },
    "invokeai": {
        "guidance_scale": 7.5,
        "scheduler": "dpmpp_2m_karras",
        "loras": (FoundLora("salt", 0.75, 0.75, "blake3:bb"),),
        "unresolved": ("controlnets: a list",),
    },
    "comfyui": {
        "prompt": "a lighthouse",
        "negative_prompt": "people",
        "seed": 5,
        "width": 512,
        "scheduler": "dpmpp_2m_karras",
        "loras": (FoundLora("salt", 0.7, 0.2), FoundLora("foam", 0.4, 0.0)),
        "model": "harbour_v3",
    },
    "workflow": {
        "prompt": "a lighthouse",
        "negative_prompt": "people",
        "steps": 20,
        "scheduler": "euler",
        "loras": (FoundLora("salt", 0.7, 0.2),),
        "model": "harbour",
        "unresolved": (),
    },
}


@pytest.mark.parametrize("tool", EXPECTED)
def test_each_tool_is_read(tool: str, tmp_path: Path) -> None:
    found = images.read(png(tmp_path / "a.png", **chunks(tool)))
    assert isinstance(found, Found)
    assert found.tool == ("comfyui" if tool == "workflow" else tool)
    assert {key: getattr(found, key) for key in EXPECTED[tool]} == EXPECTED[tool]


def test_what_is_not_taken_is_said() -> None:
    found = readers.read(chunks("comfyui"))
    assert found is not None
    told = " ".join(found.unresolved)
    assert all(word in told for word in ("2 samplers", "FreeU", "batch"))
    found = readers.read(chunks("fooocus"))
    assert found is not None
    assert "karras" in found.unresolved[0]
    assert "styles" in found.unresolved[1]


def _at_top(fields: dict[int, str], path: Path, kind: str) -> Path:
    """Write EXIF as ComfyUI and Fooocus do: as text, in the first directory."""
    block = Image.Exif()
    for tag, text in fields.items():
        block[tag] = text
    PIXELS.save(path, format=kind, exif=block)
    return path


def test_other_tools_exif_is_read(tmp_path: Path) -> None:
    comfyui = {0x0110: f"prompt:{json.dumps(COMFYUI)}", 0x010F: "workflow:{}"}
    fooocus = {0x9286: json.dumps(FOOOCUS), 0x927C: "fooocus"}
    for fields, tool in ((comfyui, "comfyui"), (fooocus, "fooocus")):
        for kind in ("WEBP", "JPEG"):
            found = images.read(_at_top(fields, tmp_path / "a", kind))
            assert isinstance(found, Found)
            assert found.tool == tool
            assert found.loras[0].name == "salt"


@pytest.mark.parametrize("code", ["utf-16-be", "utf-16-le", "utf-16"])
def test_user_comments_of_either_byte_order_are_read(code: str) -> None:
    text = chunks("a1111")["parameters"]
    assert exif.text(b"UNICODE\0" + text.encode(code)) == text
    assert exif.text(b"ASCII\0\0\0" + text.encode()) == text
    assert exif.read(exif.write({exif.USER_COMMENT: exif.comment(text)})) == {exif.USER_COMMENT: exif.comment(text)}


def test_our_own_record_comes_first_and_nothing_is_nothing(tmp_path: Path) -> None:
    from tests.composer.test_request import record

    own = record()
    both = png(tmp_path / "a.png", medley=own.model_dump_json(), **chunks("a1111"))
    assert isinstance(images.read(both), RenderRecord)
    with pytest.raises(NoRecord, match="no record of ours, nor of A1111"):
        images.read(png(tmp_path / "b.png", comment="hello"))
    gif = tmp_path / "c.gif"
    PIXELS.save(gif)
    assert not images.is_picture(gif)
    with pytest.raises(NoRecord, match="not a picture"):
        images.read(gif)


def test_a_civitai_text_with_hashes_as_json() -> None:
    text = 'x <lora:a:0.5>\nSteps: 9, Seed: 1, Size: 8x8, Hashes: {"lora:a": "0xABCDEF0123", "model": "99"}, RNG: CPU'
    found = readers.read({"parameters": text})
    assert found is not None
    assert found.loras == (FoundLora("a", 0.5, 0.5, "abcdef0123"),)
    assert (found.model_hash, found.unresolved) == ("99", ("RNG: 'CPU'",))


def test_a_prompt_alone_is_no_settings() -> None:
    found = readers.read({"parameters": "{a|b} sea: calm, sky: blue"})
    assert found is not None
    assert found.prompt == "{a|b} sea: calm, sky: blue"
    assert found.unresolved == ("no line of settings: only the prompt was found",)


def test_lora_tags_with_names_for_their_weights() -> None:
    text = "<lora:a:te=0.1:unet=0.2> <lora:b> <lora:c:x> <hypernet:h:1>\nSteps: 9, Seed: 1, Size: 8x8"
    found = readers.read({"parameters": text})
    assert found is not None
    assert found.loras == (FoundLora("a", 0.2, 0.1), FoundLora("b", 1.0, 1.0), FoundLora("c"))
    assert len(found.unresolved) == 2


@pytest.mark.parametrize(
    ("names", "asked", "scheduler", "remarked", "spacing"),
    [
        (samplers.A1111, ("DPM++ 2M", None), "dpmpp_2m", False, None),
        (samplers.A1111, ("DPM++ 2M Karras", None), "dpmpp_2m_karras", False, None),
        (samplers.A1111, ("DPM++ 2M", "Automatic"), "dpmpp_2m_karras", False, None),
        (samplers.A1111, ("DPM++ 2M SDE", "Automatic"), "dpmpp_sde", True, None),
        (samplers.A1111, ("DPM++ SDE", None), None, True, None),
        (samplers.A1111, ("Euler a", "Automatic"), "euler_a", False, None),
        (samplers.A1111, ("Euler", "SGM Uniform"), "euler", True, "trailing"),
        (samplers.COMFYUI, ("uni_pc", "normal"), "unipc", False, None),
        (samplers.COMFYUI, ("res_multistep", "simple"), None, True, None),
        (samplers.INVOKEAI, ("euler_k", None), "euler", True, None),
        (samplers.COMFYUI, ("euler", "sgm_uniform"), "euler", True, "trailing"),
        (samplers.COMFYUI, ("dpmpp_2m", "simple"), "dpmpp_2m", True, "trailing"),
        (samplers.COMFYUI, ("lcm", "sgm_uniform"), "lcm", True, None),
    ],
)
def test_samplers_are_matched_or_remarked_on(
    names: samplers.Names, asked: tuple[str, str | None], scheduler: str | None, remarked: bool, spacing: str | None
) -> None:
    found = samplers.translate(names, *asked)
    assert (found.scheduler, found.remark is not None, found.spacing) == (scheduler, remarked, spacing)


def test_old_invokeai_names_models_otherwise() -> None:
    old = INVOKEAI | {"model": {"model_name": "m"}, "loras": [{"lora": {"model_name": "l"}, "weight": 1}]}
    found = readers.read({"invokeai_metadata": json.dumps(old)})
    assert found is not None
    assert (found.model, found.loras[0].name) == ("m", "l")
