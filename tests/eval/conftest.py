"""A suite of three sets on the minute model, and what asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from eval.commands import RunFlags
from eval.running import Overrides
from pipelines.model import LoadedModel
from tests.adapters import five, save_plain

SETS = [
    {"members": ["cat", "mat"], "prompt": "a cat on a mat"},
    {"members": ["mat", "on"], "prompt": "on a mat", "group": "other"},
    {"members": ["cat", "mat", "on"]},
]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, small: LoadedModel, small_folder: Path) -> Path:
    """Write a suite of three sets with three LoRAs; return its file."""
    folder = tmp_path_factory.mktemp("suite")
    names = ("cat", "mat", "on")
    for name, adapter in zip(names, five(small.layout)[1:], strict=False):
        save_plain(adapter, folder / f"{name}.safetensors")
    members = {name: {"lora": f"{name}.safetensors", "triggers": [name], "weight": 0.8} for name in names}
    settings = {"model": str(small_folder), "num_inference_steps": 2}
    content = {"name": "mine", "settings": settings, "members": members, "sets": SETS}
    (folder / "mine.yaml").write_text(yaml.safe_dump(content))
    (folder / "turned.yaml").write_text(yaml.safe_dump({**content, "sets": SETS[::-1]}))
    return folder / "mine.yaml"


@pytest.fixture
def flags(written: Path, tmp_path: Path) -> RunFlags:
    nothing = Overrides()
    return RunFlags(str(written), "naive,merge", tmp_path / "out", None, 2, None, nothing, "embedded", (), 0, 1, False)
