"""What the device at hand can do, found by trying, and which parts of a model lie on it."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Mapping
from typing import Any, cast

import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0, XFormersAttnProcessor
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F

from composer.errors import BadRequest
from pipelines.runtime import Runtime

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
_TOLERANCE = 0.05  # of the probe's values, which are about 1; half precision stays within a hundredth


def pick_dtype(asked: str, device: torch.device) -> torch.dtype:
    """Return the type to compute in: the one asked for, or the fastest one; only if the device computes soundly in it.

    Some GPUs take half precision and answer with what is no number, which would be found in a black picture otherwise.
    """
    fastest = ("float32",) if device.type == "cpu" else tuple(_DTYPES)
    for name in fastest if asked == "auto" else (asked,):
        if _computes(device, _DTYPES[name]):
            return _DTYPES[name]
    raise BadRequest(f"dtype {asked!r}: {device} gives wrong results in it or none; choose auto or float32")


def _computes(device: torch.device, dtype: torch.dtype) -> bool:
    """Try a convolution, a product and attention against the same in single precision on the processor."""
    generator = torch.Generator("cpu").manual_seed(0)
    x, weight = torch.randn(1, 8, 16, 16, generator=generator), torch.randn(8, 8, 3, 3, generator=generator) / 72**0.5
    try:
        found = _probe(x.to(device, dtype), weight.to(device, dtype)).to("cpu", torch.float32)
    except (RuntimeError, NotImplementedError):
        return False
    return bool((found - _probe(x, weight)).abs().max() < _TOLERANCE)


def _probe(x: Tensor, weight: Tensor) -> Tensor:
    tokens = F.silu(F.group_norm(F.conv2d(x, weight, padding=1), 2)).flatten(2).mT
    return F.linear(F.scaled_dot_product_attention(tokens, tokens, tokens), weight[:, :, 1, 1])


def at_hand() -> torch.device:
    """Return the device that models run on where no other is asked for: a CUDA device if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_at_hand(runtime: Runtime) -> None:
    """Refuse what cannot work on the device at hand, as loading a model would."""
    device = at_hand()
    check(runtime, device)
    pick_dtype(runtime.dtype, device)


def check(runtime: Runtime, device: torch.device) -> None:
    """Refuse what cannot work on a device, before anything is read for it."""
    if runtime.attention == "xformers":
        _check_xformers(device)
    if runtime.offload != "none" and device.type == "cpu":
        raise BadRequest("offload 'parts' moves parts between a GPU and memory, and the model runs on the processor")


def use_attention(unet: nn.Module, name: str) -> None:
    """Let a UNet attend by this implementation."""
    processors = {"sdpa": AttnProcessor2_0, "eager": AttnProcessor, "xformers": XFormersAttnProcessor}
    cast(UNet2DConditionModel, unet).set_attn_processor(processors[name]())


def _check_xformers(device: torch.device) -> None:
    instead = "choose attention 'sdpa', which is about as fast"
    if device.type != "cuda":
        raise BadRequest(f"attention 'xformers' needs an NVIDIA GPU, and the model runs on {device}; {instead}")
    if importlib.util.find_spec("xformers") is None:
        raise BadRequest(
            f"attention 'xformers' needs the package xformers, in the release made for torch {torch.__version__}; "
            f"install it (see requirements.txt), or {instead}"
        )
    ops: Any = importlib.import_module("xformers.ops")
    sample = torch.ones(1, 16, 1, 64, device=device, dtype=torch.float16)
    try:
        ops.memory_efficient_attention(sample, sample, sample)
    except (RuntimeError, NotImplementedError, ValueError) as error:
        raise BadRequest(f"attention 'xformers' does not work with this torch and GPU: {error}; {instead}") from error


class Placement:
    """Where a model's parts lie: all on the device, or only those in use and the others in the machine's memory."""

    def __init__(self, modules: Mapping[str, nn.Module], device: torch.device, offload: bool) -> None:
        if offload and device.type == "cpu":
            raise BadRequest(
                "offload 'parts' moves parts between a GPU and memory, and the model runs on the processor"
            )
        self._modules = modules
        self._device = device
        self._offload = offload
        for module in modules.values():
            module.to("cpu" if offload else device)

    def bring(self, wanted: Collection[str]) -> None:
        """See that these parts are on the device; with offloading, that only these are."""
        if not self._offload:
            return
        for name, module in self._modules.items():
            if name not in wanted:
                module.to("cpu")
        for name in wanted:
            self._modules[name].to(self._device)
