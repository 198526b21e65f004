"""From a LoRA file's tensors to deltas, bound to the layers of a model: all of the file, or an error.

Each kind of adapter is one function in `READERS`. It gets the parts of one layer, and answers with a delta or `Misfit`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from lora_zoo import keys, scaling
from lora_zoo.adapter import Adapter, Delta, Layout, LowRank
from lora_zoo.errors import BadFile, first_few
from lora_zoo.header import header, locate
from lora_zoo.scaling import Scale

Shape = tuple[int, ...]


class Misfit(Exception):
    """Why the parts of one layer make no delta for it. Collected over the file, then reported together."""


def low_rank(parts: Mapping[str, Tensor], scale: Scale, shape: Shape) -> LowRank:
    """Build the delta of a LoRA or LoCon layer, the scale folded into `up`."""
    missing = [part for part in ("down", "up") if part not in parts]
    if missing:
        raise Misfit(f"has no {' and no '.join(missing)}")
    down, up = parts["down"], parts["up"]
    rank = down.shape[0] if down.dim() else 0
    if rank == 0 or not _same(up.shape, (shape[0], rank)) or not _same(down.shape, (rank, *shape[1:])):
        raise Misfit(f"down {list(down.shape)}, up {list(up.shape)} do not fit a weight of {list(shape)}")
    folded = up.float().reshape(shape[0], rank) * scale.factor(rank)
    return LowRank(down=down.float().reshape(rank, *shape[1:]), up=folded)


#: Kind of adapter -> how one layer of it is read.
READERS: Mapping[str, Callable[[Mapping[str, Tensor], Scale, Shape], Delta]] = {"lora": low_rank}


def read(path: Path, layout: Layout, name: str | None = None) -> Adapter:
    """Read a LoRA file, or a PEFT folder, for a model of the given layout."""
    source = locate(path)
    head = header(source.weights)
    modules = keys.bind(head.tensors, layout, str(path))
    keys.refuse_kinds(modules.values(), READERS, str(path))
    configs = scaling.configs(source, head)
    tensors, digest = _load(source.weights, source.config)
    layers: dict[str, dict[str, Delta]] = {}
    problems: list[str] = []
    for (component, layer), module in modules.items():
        parts = {part: tensors[key] for part, key in module.parts.items()}
        try:
            alpha = _alpha(parts.pop(keys.ALPHA, None))
            scale = scaling.scale(alpha, configs, component, module.spellings)
            delta = _read_layer(module.kind, parts, scale, layout[component][layer])
        except Misfit as misfit:
            problems.append(f"{next(iter(module.parts.values()))} ({misfit})")
        else:
            layers.setdefault(component, {})[layer] = delta
    if problems:
        raise BadFile(f"{path}: layers that cannot be used: {first_few(problems)}")
    return Adapter(source.name if name is None else name, digest, layers, dict(head.metadata))


def _read_layer(kind: str, parts: Mapping[str, Tensor], scale: Scale, shape: Shape) -> Delta:
    strange = [part for part, tensor in parts.items() if not tensor.is_floating_point()]
    if strange:
        raise Misfit(f"{' and '.join(strange)} of type {parts[strange[0]].dtype}, not floating point")
    delta = READERS[kind or "lora"](parts, scale, shape)  # an alpha alone: the reader says what is missing
    tensors = (delta.down, delta.up) if isinstance(delta, LowRank) else (delta.delta,)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise Misfit("holds values that are not finite")
    return delta


def _load(weights: Path, config: Path | None) -> tuple[dict[str, Tensor], str]:
    """Load the tensors and the digest from one reading, so that they cannot be of different files."""
    data = weights.read_bytes()
    digest = hashlib.sha256(data)
    if config is not None:
        digest.update(config.read_bytes())
    try:
        return safetensors.torch.load(data), digest.hexdigest()
    except (safetensors.SafetensorError, KeyError) as error:
        raise BadFile(f"{weights}: {error}") from error


def _alpha(tensor: Tensor | None) -> float | None:
    if tensor is None:
        return None
    if tensor.numel() != 1 or not bool(torch.isfinite(tensor).all()):
        raise Misfit("alpha is not one finite number")
    return float(tensor.item())


def _same(actual: Shape, wanted: Shape) -> bool:
    """Compare shapes, taking [n, m, 1, 1] for [n, m]: a 1x1 convolution is a linear layer."""
    return _squeezed(actual) == _squeezed(wanted)


def _squeezed(shape: Shape) -> Shape:
    return shape[:2] if shape[2:] == (1, 1) else tuple(shape)
