"""Read LoRA files of every common dialect: kohya, LyCORIS, diffusers (new and old), PEFT, ComfyUI.

`header` and `describe` look at a file without loading it and without torch; `read` gives the adapter for a model.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lora_zoo.describe import LoraInfo, describe
from lora_zoo.header import Header, header

if TYPE_CHECKING:
    from lora_zoo.adapter import Adapter, Layout

__all__ = ["Header", "LoraInfo", "describe", "header", "read"]


def read(path: Path, layout: Layout, name: str | None = None, allow_partial: bool = False) -> Adapter:
    """Read a LoRA file, or a PEFT folder, for a model of the given layout.

    Every key must belong to a layer of the layout, complete, of fitting shape and finite; otherwise `BadFile` names
    those that do not, and nothing is read. The strength the file states is folded in: weight 1.0 means "as trained".
    With `allow_partial` what can be read is, and the adapter's notices name what is left out.
    """
    from lora_zoo import tensors  # here, so that listing and inspecting do not wait for torch

    return tensors.read(path, layout, name, allow_partial)
