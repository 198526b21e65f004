"""Pictures carry their records, and are written whole or not at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from pipelines import images
from pipelines.errors import NoRecord
from pipelines.images import Rendering
from tests.composer.test_request import record


@pytest.fixture
def rendering() -> Rendering:
    return Rendering(Image.effect_noise((16, 8), 50).convert("RGB"), record(prompt="Grüße, 猫", notices=("cut",)))


def test_round_trip(rendering: Rendering, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    digest = images.save(rendering, path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert images.read_record(path) == rendering.record
    with Image.open(path) as image:
        assert image.tobytes() == rendering.image.tobytes()
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("name", ["jpg", "webp", "avif", "png"])
def test_a_picture_is_given_in_another_format_with_its_record(name: str, rendering: Rendering, tmp_path: Path) -> None:
    images.save(rendering, tmp_path / "a.png")
    chosen = images.format_named(name)
    (tmp_path / f"b.{name}").write_bytes(images.converted(tmp_path / "a.png", chosen))
    assert images.read_record(tmp_path / f"b.{name}") == rendering.record
    assert (tmp_path / f"b.{name}").read_bytes() == images.encode(rendering, chosen)


def test_a_failing_write_leaves_the_old_picture(
    rendering: Rendering, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    images.save(rendering, path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    for function in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, fail)
            with pytest.raises(OSError, match="full"):
                images.save(Rendering(rendering.image.rotate(180), rendering.record), path)
        assert path.read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_pixels_have_a_digest_of_their_own(rendering: Rendering) -> None:
    other = Rendering(rendering.image, record(seconds=9.0))
    assert images.encode(other) != images.encode(rendering)
    assert images.pixels_sha256(other.image) == images.pixels_sha256(rendering.image)
    assert images.pixels_sha256(rendering.image.rotate(180)) != images.pixels_sha256(rendering.image)


def test_files_without_a_record(rendering: Rendering, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(NoRecord, match="there is no file"):
        images.read_record(path)
    path.write_bytes(b"not a picture")
    with pytest.raises(NoRecord, match="cannot read the picture"):
        images.read_record(path)
    rendering.image.save(path)
    with pytest.raises(NoRecord, match="holds no record of ours"):
        images.read_record(path)
    for text in ("{", '{"seed": "x"}'):
        info = PngImagePlugin.PngInfo()
        info.add_itxt("medley", text)
        rendering.image.save(path, pnginfo=info)
        with pytest.raises(NoRecord, match="cannot be read|not JSON"):
            images.read_record(path)
    with pytest.raises(NoRecord, match="a folder, not a regular file"):
        images.read_record(tmp_path)
