"""What did the work: the machine and the versions, for whoever wants to repeat a figure."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

from pipelines.revision import revision

_PACKAGES = ("torch", "diffusers", "transformers", "open-clip-torch", "numpy", "pillow")


def facts() -> dict[str, str]:
    """Return what is known of processor, memory, system and versions."""
    known = {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    return {**known, "medley": revision(), **{name: version(name) for name in _PACKAGES}}


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
