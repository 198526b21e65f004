"""What goes into pictures names no path of the machine that made them."""

from __future__ import annotations

import pytest

from composer.request import AdapterUse, RenderRequest, Start
from composer.sharing import display_name, model_name, shared
from tests.composer.test_request import record

SECRET = "/home/ann/secret"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("zorp", "zorp"),
        (f"{SECRET}/ink.v2.safetensors", "ink.v2.safetensors"),
        ("./loras/ink.safetensors", "ink.safetensors"),
        (r"C:\Users\ann\ink.safetensors", "ink.safetensors"),
        (f"{SECRET}/adapter/", "adapter"),
        ("/", "/"),
    ],
)
def test_a_path_is_called_by_its_last_part(name: str, shown: str) -> None:
    assert display_name(name) == shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("tiny", "tiny"),
        ("owner/model-1.5", "owner/model-1.5"),
        (f"{SECRET}/model", "model"),
        ("models/m.safetensors", "m.safetensors"),
        ("./model", "model"),
        ("../model", "model"),
        ("~/model", "model"),
    ],
)
def test_a_hub_id_is_no_path(name: str, shown: str) -> None:
    assert model_name(name) == shown


def test_no_part_of_a_record_names_a_path() -> None:
    uses = (
        AdapterUse(name=f"{SECRET}/a/ink.safetensors", sha256="a" * 64),
        AdapterUse(name=f"{SECRET}/b/ink.safetensors", sha256="b" * 64),
    )
    begun = Start(image=f"{SECRET}/photo.png", mask=f"{SECRET}/mask.png", sha256="c" * 64, mask_sha256="d" * 64)
    told = (f"LoRA '{SECRET}/b/ink.safetensors': weak", f"model {SECRET}/model: slow")
    made = record(model=f"{SECRET}/model", adapters=uses, start=begun, notices=told)
    found = shared(made)
    assert "ann" not in found.model_dump_json()
    assert [use.name for use in found.adapters] == ["ink.safetensors", "ink.safetensors-bbbbbbbb"]
    assert [use.sha256 for use in found.adapters] == ["a" * 64, "b" * 64]
    assert found.notices == ("LoRA 'ink.safetensors-bbbbbbbb': weak", "model model: slow")
    assert found.start == begun.model_copy(update={"image": "photo.png", "mask": "mask.png"})
    assert shared(found) == found


def test_what_names_no_path_stays_equal() -> None:
    inline = Start(image="data:image/png;base64,aa/bb", mask="held:" + "0" * 64)
    asked = RenderRequest(model="owner/model", adapters=(AdapterUse(name="zorp"),), start=inline)
    assert shared(asked) == asked
    assert shared(record(notices=("a/b is text",))) == record(notices=("a/b is text",))
