"""Write a LoRA file in one of the dialects met in the wild, so that every other tool can read it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from torch import Tensor

Dialect = Literal["kohya", "diffusers", "peft"]


@dataclass(frozen=True, eq=False)
class Factors:
    """One layer as it is stored: alpha apart from the factors. Convolutions keep their kernel in `down`."""

    down: Tensor  # [rank, in] or [rank, in, kh, kw]
    up: Tensor  # [out, rank] or [out, rank, 1, 1]
    alpha: float


Layers = Mapping[str, Mapping[str, Factors]]  # component -> module path -> factors


def write(path: Path, layers: Layers, dialect: Dialect, metadata: Mapping[str, str]) -> Path:
    """Write the file (for PEFT, the folder) in half precision, atomically, and return its path."""
    tensors = {k: v.to(torch.float16).contiguous() for k, v in _WRITERS[dialect](layers).items()}
    if dialect != "peft":
        _save(tensors, path, {"format": "pt", **metadata})
        return path
    path.mkdir(parents=True, exist_ok=True)
    (path / "adapter_config.json").write_text(json.dumps(_peft_config(layers), indent=2, sort_keys=True) + "\n")
    _save(tensors, path / "adapter_model.safetensors", {"format": "pt", **metadata})
    return path


def _save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(safetensors.torch.save(tensors, metadata))
    os.replace(partial, path)


def _kohya(layers: Layers) -> dict[str, Tensor]:
    prefix = {"unet": "lora_unet_", "text_encoder": "lora_te_text_model_"}
    out: dict[str, Tensor] = {}
    for component, paths in layers.items():
        for path, one in paths.items():
            stem = prefix[component] + path.replace(".", "_")
            convolution = one.down.ndim == 4
            out[f"{stem}.lora_down.weight"] = one.down
            out[f"{stem}.lora_up.weight"] = one.up.reshape(*one.up.shape[:2], 1, 1) if convolution else one.up
            out[f"{stem}.alpha"] = torch.tensor(one.alpha)
    return out


def _diffusers(layers: Layers) -> dict[str, Tensor]:
    """diffusers' own names carry no alpha, so alpha / rank goes into `up`: exact in every reader."""
    prefix = {"unet": "unet.", "text_encoder": "text_encoder.text_model."}
    out: dict[str, Tensor] = {}
    for component, paths in layers.items():
        for path, one in paths.items():
            scaled = one.up * (one.alpha / one.down.shape[0])
            out[f"{prefix[component]}{path}.lora_A.weight"] = one.down
            out[f"{prefix[component]}{path}.lora_B.weight"] = (
                scaled.reshape(*scaled.shape[:2], 1, 1) if one.down.ndim == 4 else scaled
            )
    return out


def _peft(layers: Layers) -> dict[str, Tensor]:
    """PEFT's names, for a UNet alone: its configuration file holds the alpha."""
    assert set(layers) == {"unet"}, "a PEFT folder is one model's adapter"
    out: dict[str, Tensor] = {}
    for path, one in layers["unet"].items():
        stem = f"base_model.model.{path}"
        out[f"{stem}.lora_A.weight"] = one.down
        out[f"{stem}.lora_B.weight"] = one.up.reshape(*one.up.shape[:2], 1, 1) if one.down.ndim == 4 else one.up
    return out


def _peft_config(layers: Layers) -> dict[str, object]:
    paths = layers["unet"]
    first = next(iter(paths.values()))
    rank, alpha = first.down.shape[0], first.alpha
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {p: f.down.shape[0] for p, f in paths.items() if f.down.shape[0] != rank},
        "alpha_pattern": {p: f.alpha for p, f in paths.items() if f.alpha != alpha},
        "target_modules": sorted(paths),
        "use_rslora": False,
        "use_dora": False,
        "bias": "none",
        "lora_dropout": 0.0,
        "inference_mode": True,
    }


_WRITERS = {"kohya": _kohya, "diffusers": _diffusers, "peft": _peft}
