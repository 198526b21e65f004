"""Eighteen damaged copies of a real LoRA: twelve that common loaders take without a word, and six of wrong shape."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

SOUND = Path(__file__).parents[2] / "lora_zoo" / "files" / "loras" / "bolt.safetensors"
_LAYER = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
DOWN, UP = f"{_LAYER}.lora_A.weight", f"{_LAYER}.lora_B.weight"

Tensors = dict[str, Tensor]


def _sound() -> Tensors:
    return {key: value.float() for key, value in safetensors.torch.load(SOUND.read_bytes()).items()}


def _with(**changes: Callable[[Tensor], Tensor]) -> Callable[[], Tensors]:
    keys = {"down": DOWN, "up": UP}
    return lambda: (made := _sound()) | {keys[name]: change(made[keys[name]]) for name, change in changes.items()}


def _without(gone: Callable[[str], bool]) -> Callable[[], Tensors]:
    return lambda: {key: value for key, value in _sound().items() if not gone(key)}


def _cast(kind: torch.dtype) -> Callable[[], Tensors]:
    return lambda: {key: value.to(kind) for key, value in _sound().items()}


def _half(key: str) -> bool:
    layers = sorted({one.split(".lora_")[0] for one in _sound()})
    return key.split(".lora_")[0] in layers[1::2]


_MADE: dict[str, tuple[Callable[[], Tensors], str]] = {
    "nan": (_with(up=lambda one: one.fill_(torch.nan)), "not finite"),
    "infinite": (_with(down=lambda one: one.fill_(torch.inf)), "not finite"),
    "huge": (_with(up=lambda one: one.fill_(1e30)), "1e+30"),
    "no-down": (_without(lambda key: key == DOWN), "has no down"),
    "no-up": (_without(lambda key: key == UP), "has no up"),
    "extra-keys": (lambda: _sound() | {"extra.thing": torch.ones(1)}, "extra.thing"),
    "nothing": (dict, "without LoRA layers"),
    "eight-bit": (_cast(torch.float8_e4m3fn), "8 bits"),
    "half-gone": (_without(_half), "as if some were lost"),
    "int8": (_cast(torch.int8), "not floating point"),
    "int64": (_cast(torch.int64), "not floating point"),
    "no-unet": (lambda: {key.replace("unet.", "other."): one for key, one in _sound().items()}, "match no layer"),
    "unequal-ranks": (_with(up=lambda one: one[:, 1:].clone()), "do not fit"),
    "rank-0": (_with(down=lambda one: one[:0].clone()), "a tensor of nothing"),
    "three-sided": (_with(down=lambda one: torch.stack([one, one], -1)), "do not fit"),
    "transposed": (_with(down=lambda one: one.T.contiguous()), "do not fit"),
    "too-narrow": (_with(down=lambda one: one[:, 1:].clone()), "do not fit"),
    "too-wide": (_with(up=lambda one: torch.cat([one, one])), "do not fit"),
}


def write(folder: Path) -> dict[Path, str]:
    """Write all of them; return each file with what its refusal says."""
    found: dict[Path, str] = {}
    for name, (make, fault) in _MADE.items():
        path = folder / f"{name}.safetensors"
        path.write_bytes(safetensors.torch.save(make()))
        found[path] = fault
    return found
