"""Pictures that users give, made to hurt: refused by what they say of themselves, before a pixel is decoded."""

from __future__ import annotations

import base64
import io
import struct
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from composer.errors import BadRequest
from composer.request import AdapterUse, Region, Start
from pipelines.engine import Engine
from tests.requests import ask


def bomb(width: int, height: int) -> bytes:
    """Return a PNG of one grey that says it is so large; its few bytes would become as many pixels."""
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "PNG")
    small = file.getvalue()
    head = struct.pack(">II", width, height) + small[24:29]
    return small[:16] + head + struct.pack(">I", zlib.crc32(b"IHDR" + head)) + small[33:]


def packed() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0", bytes(50_000_000))
    return file.getvalue()


HOSTILE = {
    "64 million pixels and some": bomb(8001, 8000),
    "Pillow's own limit": bomb(100_000, 100_000),
    "an archive of 50 MB of nothing": packed(),
    "half a picture": bomb(64, 64)[:40],
    "no picture": b"GIF89a and no more",
    "nothing": b"",
}


@pytest.mark.parametrize("use", ["start", "mask", "region"])
@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_they_are_refused_soon_and_cheaply(
    content: bytes, use: str, engine: Engine, small_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    sound = tmp_path / "sound.png"
    Image.new("RGB", (32, 32), (9, 9, 9)).save(sound)
    inline = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    for where in (str(path), inline):
        start = Start(image=where) if use == "start" else Start(image=str(sound), mask=where) if use == "mask" else None
        region = AdapterUse(name="lora0", weight=1.0, region=Region(mask=where))
        method = {"method": "regional", "adapters": (region,)} if start is None else {}
        tracemalloc.start()
        began = time.process_time()
        with pytest.raises(BadRequest, match="picture to begin with|the mask"):
            engine.resolve(ask(str(small_folder), start=start, width=32, height=32, **method))
        assert time.process_time() - began < 1.0
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
        tracemalloc.stop()
