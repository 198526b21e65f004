"""What a method found on the way to a picture, masks and maps, as files beside its name."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

from PIL import Image
from pydantic import JsonValue

from lora_zoo.storage import atomic
from pipelines import cli_output
from pipelines.images import Rendering

_NO_NAME = re.compile(r"[^\w.]+")


def write(rendering: Rendering, folder: Path, stem: str) -> dict[str, JsonValue]:
    """Write a picture's findings as grey PNGs of its size, and return the files by what they show.

    Cells stay whole, so that a mask drawn back to the latents' size, as a region, is the mask that was found.
    """
    if not rendering.findings:
        cli_output.notice(f"notice: method '{rendering.record.method}' finds nothing that could be shown")
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, JsonValue] = {}
    for number, (name, found) in enumerate(rendering.findings.items(), start=1):
        path, buffer = folder / f"{stem}-{number}-{_NO_NAME.sub('-', name)}.png", BytesIO()
        found.resize(rendering.image.size, Image.Resampling.NEAREST).save(buffer, format="PNG")
        atomic.write(buffer.getvalue(), path)
        files[name] = str(path)
    return files
