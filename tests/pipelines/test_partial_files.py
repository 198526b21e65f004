"""A LoRA file of which a part cannot be read: used without it only where a request asks for that."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from composer.request import AdapterUse, RenderRequest
from lora_zoo.errors import BadFile
from pipelines.engine import Engine
from tests.adapters import Kind, random_adapter, save_kohya


def test_a_file_in_part_is_used_if_asked_told_and_repeated(tmp_path: Path) -> None:
    """The record and its notices say so, so that the record repeats the picture and no request gets it by accident."""
    engine, path = Engine(), tmp_path / "odd.safetensors"
    adapter = random_adapter("odd", engine.model("tiny").layout, Kind(2, 2.0), 1)
    save_kohya(adapter, path, 2.0)
    tensors = load_file(path)
    sound = engine.render(_tiny(path)).record
    save_file({**tensors, "lora_unet_nowhere.lora_up.weight": torch.ones(1, 1)}, path)
    with pytest.raises(BadFile, match="match no layer of this model: lora_unet_nowhere"):
        Engine().render(_tiny(path))
    rendered = Engine().render(_tiny(path, allow_partial=True)).record
    assert rendered.pixels_sha256 == sound.pixels_sha256
    assert rendered.adapters[0].allow_partial
    told = "used without what cannot be read of it: keys that match no layer of this model: lora_unet_nowhere"
    assert [notice for notice in rendered.notices if told in notice]
    assert not [notice for notice in sound.notices if "without" in notice]
    assert Engine().render(rendered.request()).record.pixels_sha256 == sound.pixels_sha256


def _tiny(path: Path, **use: object) -> RenderRequest:
    adapter = AdapterUse.model_validate({"name": str(path), **use})
    return RenderRequest(prompt="a zorp", adapters=(adapter,), num_inference_steps=1)
