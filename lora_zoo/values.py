"""The values of a layer's parts: of types that belong together, finite, and no greater than training makes them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lora_zoo import keys
from lora_zoo.kinds import Misfit

#: The greatest value of a factor, a scale and a delta. A trained weight is of the order of 1 and its change is smaller;
#: what goes past this is a damaged file, which turns every picture black and still looks like one that loads.
_LARGEST = 1e4

#: Parts that count or switch instead of measuring, hence may be stored as whole numbers.
_WHOLE_NUMBERS = ("indices", "on_input")


def check_types(parts: Mapping[str, Tensor]) -> None:
    """Refuse a layer whose factors are of several types: half of it was relabelled, since they are saved together."""
    strange = [
        name for name, tensor in parts.items() if not (tensor.is_floating_point() or _may_be_whole(name, tensor))
    ]
    if strange:
        raise Misfit(f"{' and '.join(strange)} of type {parts[strange[0]].dtype}, not floating point")
    types = {name: tensor.dtype for name, tensor in parts.items() if name not in _WHOLE_NUMBERS}
    short = {kind for kind in types.values() if kind.itemsize == 2}
    factors = {kind for name, kind in types.items() if name not in (keys.ALPHA, keys.MAGNITUDE, keys.ROW_MAGNITUDE)}
    if len(short) > 1 or len(factors) > 1:
        raise Misfit(
            f"parts of types {', '.join(sorted({str(kind) for kind in types.values()}))} do not belong together"
        )


def _may_be_whole(name: str, tensor: Tensor) -> bool:
    """Allow whole numbers where they are written: LyCORIS stores an alpha of 4 as what Python makes of it, an int64."""
    return name in _WHOLE_NUMBERS or (name == keys.ALPHA and tensor.dtype == torch.int64)


def checked(name: str, tensor: Tensor) -> Tensor:
    """Return a part in float32, its values checked."""
    if name in _WHOLE_NUMBERS and not tensor.is_floating_point():
        return tensor
    wide = tensor.float()
    check_values(name, wide, torch.inf if name in (*_WHOLE_NUMBERS, keys.ALPHA) else _LARGEST)
    return wide


def check_values(name: str, tensor: Tensor, largest: float = _LARGEST) -> None:
    if not bool(torch.isfinite(tensor).all()):
        raise Misfit(f"{name} holds values that are not finite")
    greatest = float(tensor.abs().max())
    if greatest > largest:
        raise Misfit(f"{name} holds {greatest:.3g}; no trained value is greater than {largest:g}")


def refuse_bias(bias: Tensor | None) -> None:
    if bias is not None and bool((bias != 0).any()):
        raise Misfit("has a bias of its up factor, which is not read")


def stated_alpha(tensor: Tensor | None) -> float | None:
    if tensor is None:
        return None
    if tensor.numel() != 1 or not 0 <= float(tensor) <= _LARGEST:
        raise Misfit(f"alpha is not one number from 0 to {_LARGEST:g}")
    return float(tensor)
