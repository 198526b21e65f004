"""Write a LoRA file in one of the dialects met in the wild, so that every other tool can read it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from torch import Tensor

from lora_zoo.adapter import Vectors
from lora_zoo.errors import BadFile, UnknownName
from lora_zoo.storage import atomic

Dialect = Literal["kohya", "diffusers", "peft"]

#: Types that a file may store its values in. All tools read half precision, in which trainers write by default.
DTYPES = ("float16", "bfloat16", "float32")


@dataclass(frozen=True, eq=False)
class Factors:
    """One layer as it is stored: alpha apart from the factors. Convolutions keep their kernel in `down`."""

    down: Tensor  # [rank, in] or [rank, in, kh, kw]
    up: Tensor  # [out, rank] or [out, rank, 1, 1]
    alpha: float | None  # None: not stored, which every reader takes for alpha = rank

    @property
    def scale(self) -> float:
        return 1.0 if self.alpha is None else self.alpha / self.down.shape[0]


Layers = Mapping[str, Mapping[str, Factors]]  # component -> module path -> factors

_NO_VECTORS: Vectors = {}


def check_dtype(name: str) -> None:
    """Refuse a type that files are not written in."""
    if name not in DTYPES:
        raise UnknownName("type of stored values", name, DTYPES)


def write(  # noqa: PLR0913  what a file holds, and how it is spelled and stored
    path: Path,
    layers: Layers,
    dialect: Dialect,
    metadata: Mapping[str, str],
    dtype: str = DTYPES[0],
    vectors: Vectors = _NO_VECTORS,
) -> Path:
    """Write the file (for PEFT, the folder) atomically; return its path. What `dtype` cannot hold is refused.

    Changes of biases and normalisation, `vectors`, have a spelling among kohya's alone.
    """
    tensors = _stored(layers, dialect, dtype, vectors)
    if dialect != "peft":
        _save(tensors, path, {"format": "pt", **metadata})
        return path
    path.mkdir(parents=True, exist_ok=True)
    atomic.write_text(json.dumps(_peft_config(layers), indent=2, sort_keys=True) + "\n", path / "adapter_config.json")
    _save(tensors, path / "adapter_model.safetensors", {"format": "pt", **metadata})
    return path


def data_sha256(layers: Layers, dialect: Dialect, dtype: str = DTYPES[0], vectors: Vectors = _NO_VECTORS) -> str:
    """Return the sha256 of a file's tensor data, which kohya's tools know a LoRA by whatever its metadata says."""
    content = safetensors.torch.save(_stored(layers, dialect, dtype, vectors))
    return hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()


def _stored(layers: Layers, dialect: Dialect, dtype: str, vectors: Vectors) -> dict[str, Tensor]:
    check_dtype(dtype)
    assert dialect == "kohya" or not vectors, "no other dialect has a spelling for biases and normalisation"
    stored: dict[str, Tensor] = {}
    for key, value in (_kohya(layers, vectors) if dialect == "kohya" else _OTHERS[dialect](layers)).items():
        stored[key] = value.to(getattr(torch, dtype)).contiguous()
        if not bool(torch.isfinite(stored[key]).all()):
            raise BadFile(f"{key}: its values leave the range of {dtype}; {DTYPES[-1]} holds what is finite")
    return stored


def _save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(safetensors.torch.save(tensors, metadata), path)


def _kohya_stem(component: str, path: str, sdxl: bool) -> str:
    prefix = {"unet": "lora_unet_", "text_encoder": "lora_te1_" if sdxl else "lora_te_", "text_encoder_2": "lora_te2_"}
    inner = "" if component == "unet" or path == "text_projection" else "text_model."
    return prefix[component] + (inner + path.removeprefix("text_model.")).replace(".", "_")


def _kohya(layers: Layers, vectors: Vectors) -> dict[str, Tensor]:
    sdxl = "text_encoder_2" in layers or "text_encoder_2" in vectors
    out: dict[str, Tensor] = {}
    for component, paths in layers.items():
        for path, one in paths.items():
            stem = _kohya_stem(component, path, sdxl)
            convolution = one.down.ndim == 4
            out[f"{stem}.lora_down.weight"] = one.down
            out[f"{stem}.lora_up.weight"] = one.up.reshape(*one.up.shape[:2], 1, 1) if convolution else one.up
            if one.alpha is not None:
                out[f"{stem}.alpha"] = torch.tensor(one.alpha)
    for component, changes in vectors.items():
        for path, change in changes.items():
            owner, _, name = path.rpartition(".")
            norm = "norm" in owner.rpartition(".")[2]  # as all models here call their normalisation layers
            ending = f"{name[0]}_norm" if norm else "diff_b"
            out[f"{_kohya_stem(component, owner, sdxl)}.{ending}"] = change
    return out


def _diffusers(layers: Layers) -> dict[str, Tensor]:
    """diffusers' own names carry no alpha, so alpha / rank goes into `up`: exact in every reader."""
    prefix = {"unet": "unet.", "text_encoder": "text_encoder.text_model.", "text_encoder_2": "text_encoder_2."}
    out: dict[str, Tensor] = {}
    for component, paths in layers.items():
        for path, one in paths.items():
            scaled = one.up * one.scale
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
    rank = first.down.shape[0]
    alphas = {path: one.scale * one.down.shape[0] for path, one in paths.items()}
    alpha = alphas[next(iter(paths))]
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {p: f.down.shape[0] for p, f in paths.items() if f.down.shape[0] != rank},
        "alpha_pattern": {path: one for path, one in alphas.items() if one != alpha},
        "target_modules": sorted(paths),
        "use_rslora": False,
        "use_dora": False,
        "bias": "none",
        "lora_dropout": 0.0,
        "inference_mode": True,
    }


_OTHERS = {"diffusers": _diffusers, "peft": _peft}
