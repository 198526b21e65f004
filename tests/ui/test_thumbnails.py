"""Previews of LoRAs as a page sees them: pictures of their own folder, decoded and written anew."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lora_zoo.errors import BadFile
from ui import thumbnails

HIDDEN = b"the canary of the mine"


def picture(path: Path, size: tuple[int, int] = (40, 20), kind: str = "PNG") -> Path:
    said = PngInfo()
    said.add_text("secret", HIDDEN.decode())
    Image.new("RGB", size, (10, 200, 30)).save(path, kind, **({"pnginfo": said} if kind == "PNG" else {}))
    path.write_bytes(path.read_bytes() + HIDDEN)
    return path


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_a_preview_is_written_anew(tmp_path: Path, kind: str) -> None:
    data, media = thumbnails.shown(picture(tmp_path / "x.png", kind=kind))
    assert HIDDEN not in data and media == "image/png"
    assert Image.open(io.BytesIO(data)).size == (40, 20)


def test_a_large_one_becomes_small(tmp_path: Path) -> None:
    data, media = thumbnails.shown(picture(tmp_path / "x.png", (3000, 1500)))
    assert (Image.open(io.BytesIO(data)).size, media) == ((512, 256), "image/jpeg")


def test_one_that_changes_is_read_again(tmp_path: Path) -> None:
    path = picture(tmp_path / "x.png", (40, 20))
    assert Image.open(io.BytesIO(thumbnails.shown(path)[0])).size == (40, 20)
    picture(path, (20, 60))
    assert Image.open(io.BytesIO(thumbnails.shown(path)[0])).size == (20, 60)


def test_a_link_to_another_folder_is_none(tmp_path: Path) -> None:
    (tmp_path / "zoo").mkdir()
    path = tmp_path / "zoo" / "x.png"
    path.symlink_to(picture(tmp_path / "other.png"))
    with pytest.raises(BadFile, match="leads out of its folder"):
        thumbnails.shown(path)


def test_what_is_no_picture_is_none(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(HIDDEN)
    with pytest.raises(BadFile, match="not a picture of a kind that is read"):
        thumbnails.shown(path)
    os.unlink(path)
    os.mkfifo(path)
    with pytest.raises(BadFile, match="a pipe, not a regular file"):
        thumbnails.shown(path)
    with pytest.raises(BadFile, match="cannot be opened"):
        thumbnails.shown(tmp_path / "gone.png")


def test_one_of_too_many_pixels_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="more than 64,000,000 pixels"):
        thumbnails.shown(picture(tmp_path / "x.png", (8001, 8000)))
