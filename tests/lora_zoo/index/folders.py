"""Folders of small LoRA files, and what an index holds of them."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

from lora_zoo.index.rows import Facts, Row
from lora_zoo.index.scan import Report
from lora_zoo.index.store import Store

LAYER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


def lora_bytes(
    value: int, metadata: Mapping[str, str] | None = None, width: int = 768, alpha: float | None = None
) -> bytes:
    """Return a LoRA file of one layer of rank 1 whose data depend on `value`."""
    down, up = struct.pack("<f", value) * width, struct.pack("<f", 1.0) * 8
    end = len(down) + len(up)
    head: dict[str, object] = {
        f"{LAYER}.lora_down.weight": {"dtype": "F32", "shape": [1, width], "data_offsets": [0, len(down)]},
        f"{LAYER}.lora_up.weight": {"dtype": "F32", "shape": [8, 1], "data_offsets": [len(down), end]},
    }
    last = b"" if alpha is None else struct.pack("<f", alpha)
    if last:
        head[f"{LAYER}.alpha"] = {"dtype": "F32", "shape": [], "data_offsets": [end, end + len(last)]}
    if metadata:
        head["__metadata__"] = dict(metadata)
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + down + up + last


def lora(path: Path, value: int, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a LoRA file, and the folders it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lora_bytes(value, metadata))
    return path


def counts(report: Report) -> tuple[int, int, int, int, int]:
    return report.files, report.new, report.changed, report.gone, report.refused


def by_name(store: Store, root: Path) -> dict[str, Row]:
    return {row.name: row for row in store.rows([root])}


def facts_of(row: Row) -> Facts:
    assert row.facts is not None, row.error
    return row.facts
