"""Weights by block of the UNet: how strongly a LoRA acts in each, beside its weight for all.

Blocks go by the names of the original layout, as in sd-webui-lora-block-weight: BASE is the text encoder, IN00 to OUT11
what input_blocks and output_blocks count in SD1.5, MID what lies between. A list of numbers names the blocks by its
length: all of them (26 in SD1.5, 20 in SDXL), or those with attention (17 and 12), the others then being 0. What is in
no block (embeddings of the timestep, the last convolution) is left as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from composer.errors import BadRequest
from composer.request import BlockWeights
from lora_zoo import sgm
from lora_zoo.errors import nearest

if TYPE_CHECKING:
    from lora_zoo.adapter import Adapter, Delta, Layout

BASE, MID = "BASE", "MID"
_ALIASES = {"M00": MID}
_UNET = "unet"
_MOST = 100.0

#: The extension's presets by the blocks that are at 1, which are SD1.5's; ALL, NONE, INALL and OUTALL are any model's.
_PRESETS: Mapping[str, tuple[str, ...]] = {
    "INS": (BASE, "IN01", "IN02", "IN04"),
    "IND": (BASE, "IN05", "IN07", "IN08"),
    "MIDD": (BASE, "IN05", "IN07", "IN08", MID, "OUT03", "OUT04", "OUT05", "OUT06"),
    "OUTD": (BASE, "OUT03", "OUT04", "OUT05", "OUT06"),
    "OUTS": (BASE, "OUT07", "OUT08", "OUT09", "OUT10", "OUT11"),
}
PRESETS = ("ALL", "NONE", "INALL", "OUTALL", *_PRESETS)


@dataclass(frozen=True)
class UnetBlocks:
    """The blocks of one model, BASE first, in the order of the original layout."""

    all: tuple[str, ...]
    attending: tuple[str, ...]  # those with attention, BASE and MID among them


def of_unet(down: Sequence[bool], up: Sequence[bool], layers: Sequence[int]) -> UnetBlocks:
    """Return the blocks of a UNet from which levels attend, on the way down and up, and the layers of each level."""
    ins, outs = [False], list[bool]()  # the first convolution is IN00
    for level, (attends, count) in enumerate(zip(down, layers, strict=True)):
        ins += [attends] * count + [False] * (level < len(down) - 1)  # a downsampler is a block of its own
    for attends, count in zip(up, reversed(layers), strict=True):
        outs += [attends] * (count + 1)
    named = {BASE: True, **_numbered("IN", ins), MID: True, **_numbered("OUT", outs)}
    return UnetBlocks(tuple(named), tuple(name for name, attends in named.items() if attends))


def _numbered(side: str, attends: Sequence[bool]) -> dict[str, bool]:
    return {f"{side}{place:02d}": one for place, one in enumerate(attends)}


def table(given: BlockWeights, blocks: UnetBlocks) -> dict[str, float]:
    """Return the weight of every block of a model; a name or a number of weights that is none of it is an error."""
    if isinstance(given, str):
        return table(_read(given), blocks) if _is_listed(given) else _preset(given, blocks)
    if isinstance(given, Mapping):
        named = {_ALIASES.get(name.upper(), name.upper()): weight for name, weight in given.items()}
        for name in named:
            if name not in blocks.all:
                raise BadRequest(f"the model has no block {name!r}{nearest(name, blocks.all)}")
        return {name: named.get(name, 1.0) for name in blocks.all}
    for names in (blocks.all, blocks.attending):
        if len(given) == len(names):
            return {**dict.fromkeys(blocks.all, 0.0), **dict(zip(names, given, strict=True))}
    raise BadRequest(
        f"weights by block: this model takes {len(blocks.attending)} numbers, for the blocks with attention, or "
        f"{len(blocks.all)}, for all; got {len(given)}"
    )


def check(text: str) -> None:
    """Refuse a text that is neither a list of numbers or of BLOCK:WEIGHT pairs nor a preset, whatever the model."""
    if _is_listed(text):
        _read(text)
    elif text.upper() not in PRESETS:
        raise BadRequest(_strange(text))


def _strange(name: str) -> str:
    return (
        f"weights by block: {name!r} is neither a list of numbers nor of BLOCK:WEIGHT pairs, nor a preset"
        f"{nearest(name.upper(), PRESETS)}"
    )


def _is_listed(text: str) -> bool:
    return "," in text or ":" in text


def _read(text: str) -> BlockWeights:
    """Read numbers, or BLOCK:WEIGHT pairs, between commas."""
    parts = [part.strip() for part in text.split(",")]
    if not any(":" in part for part in parts):
        return tuple(_number(part, text) for part in parts)
    pairs = [part.partition(":") for part in parts]
    return {name.strip(): _number(weight.strip(), text) for name, _, weight in pairs}


def _number(part: str, text: str) -> float:
    try:
        value = float(part)
    except ValueError:
        raise BadRequest(f"weights by block {text!r}: {part!r} is not a number") from None
    if not abs(value) <= _MOST:
        raise BadRequest(f"weights by block {text!r}: {part} is not a weight from {-_MOST:g} to {_MOST:g}")
    return value


def _preset(name: str, blocks: UnetBlocks) -> dict[str, float]:
    known = {
        "ALL": blocks.all,
        "NONE": (),
        "INALL": tuple(one for one in blocks.all if one == BASE or one.startswith("IN")),
        "OUTALL": tuple(one for one in blocks.all if one == BASE or one.startswith("OUT")),
        **_PRESETS,
    }
    if name.upper() not in known:
        raise BadRequest(_strange(name))
    chosen = known[name.upper()]
    if name.upper() in _PRESETS and (lacking := [one for one in chosen if one not in blocks.attending]):
        raise BadRequest(
            f"weights by block: {name} is made for SD1.5; this model has no attention in {', '.join(lacking)}"
        )
    return {one: float(one in chosen) for one in blocks.all}


def of_paths(paths: Sequence[str]) -> dict[str, str]:
    """Return module path -> block, for the modules of a whole UNet that are in one."""
    found: dict[str, str] = {}
    for original, path in sgm.names(paths).items():
        head, _, number = original.partition(".")
        if head == "middle_block":
            found[path] = MID
        elif head in ("input_blocks", "output_blocks"):
            side = "IN" if head == "input_blocks" else "OUT"
            found[path] = f"{side}{int(number.split('.')[0]):02d}"
    return found


def shaped(adapter: Adapter, factors: Mapping[str, float], layout: Layout) -> Adapter:
    """Return an adapter whose deltas are multiplied block by block, under a digest of its own; 0 leaves them out."""
    vectors = adapter.vectors.get(_UNET, {})
    places = of_paths([*layout.get(_UNET, {}), *(_owner(path) for path in vectors)])

    def factor_of(component: str, path: str) -> float:
        return factors.get(places.get(path, "") if component == _UNET else BASE, 1.0)

    layers = {
        component: {
            path: _times(delta, factor) for path, delta in deltas.items() if (factor := factor_of(component, path))
        }
        for component, deltas in adapter.layers.items()
    }
    changed = {
        component: {
            path: change * factor for path, change in changes.items() if (factor := factor_of(component, _owner(path)))
        }
        for component, changes in adapter.vectors.items()
    }
    text = json.dumps([adapter.digest, sorted(factors.items())])
    return replace(adapter, digest=hashlib.sha256(text.encode()).hexdigest(), layers=layers, vectors=changed)


def _owner(path: str) -> str:
    """Return the module that a parameter belongs to."""
    return path.rpartition(".")[0]


def _times(delta: Delta, factor: float) -> Delta:
    from lora_zoo.adapter import LowRank

    if factor == 1.0:
        return delta
    if isinstance(delta, LowRank):
        return replace(delta, up=delta.up * factor)
    return replace(delta, delta=delta.delta * factor)
