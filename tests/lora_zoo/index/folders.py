"""Folders of small LoRA files."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

LAYER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


def lora_bytes(value: int, metadata: Mapping[str, str] | None = None, width: int = 768) -> bytes:
    """Return a LoRA file of one layer of rank 1 whose data depend on `value`."""
    down, up = struct.pack("<f", value) * width, struct.pack("<f", 1.0) * 8
    head: dict[str, object] = {
        f"{LAYER}.lora_down.weight": {"dtype": "F32", "shape": [1, width], "data_offsets": [0, len(down)]},
        f"{LAYER}.lora_up.weight": {"dtype": "F32", "shape": [8, 1], "data_offsets": [len(down), len(down) + len(up)]},
    }
    if metadata:
        head["__metadata__"] = dict(metadata)
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + down + up


def lora(path: Path, value: int, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a LoRA file, and the folders it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lora_bytes(value, metadata))
    return path
