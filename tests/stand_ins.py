"""What the command line is tried with when nothing is rendered: a model without weights, a catalogue of two LoRAs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import save_file

from lora_zoo.catalog import Catalog, entry_for, write_catalog

LAYER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
LORAS = ("zorp", "trident")


def model_without_weights(folder: Path) -> str:
    """Return a model folder with configurations only: enough for all that happens before loading."""
    configs = {
        "unet": {
            "cross_attention_dim": 32,
            "block_out_channels": [32, 32],
            "sample_size": 16,
            "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        },
        "vae": {"block_out_channels": [8, 8, 8]},
    }
    for part in ("tokenizer", "text_encoder", "unet", "vae", "scheduler"):
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps(configs.get(part, {})))
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    return str(folder)


def two_loras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in an empty folder, with a catalogue of two small LoRA files."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    for rank, name in enumerate(LORAS, start=2):
        down, up = numpy.ones((rank, 32), "float32"), numpy.ones((32, rank), "float32")
        tensors = {f"{LAYER}.lora_down.weight": down, f"{LAYER}.lora_up.weight": up}
        save_file(tensors, folder / f"{name}.safetensors", {"modelspec.trigger_phrase": f"{name}, the {name}"})
    path = folder / "catalog.json"
    write_catalog([entry_for(folder / f"{name}.safetensors") for name in LORAS], path)
    catalogue = Catalog.load(path)
    monkeypatch.setattr(Catalog, "load", lambda *_: catalogue)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
