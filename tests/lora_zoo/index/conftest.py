"""An empty index, and an empty folder to scan."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_zoo.index.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache" / "zoo.sqlite")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "loras"
    folder.mkdir()
    return folder
