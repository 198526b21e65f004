"""Stable Diffusion's original module names, which many files still use, beside diffusers' names for the same UNet.

The original counts blocks across resolutions, so its numbers follow from how many layers each block of the model has;
they are derived from the model's own module names rather than tabled for one model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_BLOCK = re.compile(r"(down_blocks|up_blocks)\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_MID = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")

_OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_IN_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}

#: (side, block, kind of layer, index in the block)
_Layer = tuple[str, int, str, int]


def names(paths: Iterable[str]) -> dict[str, str]:
    """Return original name -> diffusers' path for every module of a UNet that has an original name."""
    found = {path: match for path in paths if (match := _BLOCK.fullmatch(path))}
    layers = {path: (m[1], int(m[2]), m[3], int(m[4])) for path, m in found.items()}
    places = _places(set(layers.values()))
    result = {_OUTSIDE[path]: path for path in paths if path in _OUTSIDE}
    for path, layer in layers.items():
        result[f"{places[layer]}.{_inner(layer[2], found[path][5])}"] = path
    for path in paths:
        if match := _MID.fullmatch(path):
            place = 1 if match[1] == "attentions" else 2 * int(match[2])
            result[f"middle_block.{place}.{_inner(match[1], match[3])}"] = path
    return result


def _inner(kind: str, name: str) -> str:
    if kind == "resnets":
        return _IN_RESNET.get(name, name)
    return "op" if kind == "downsamplers" else name


def _places(layers: set[_Layer]) -> dict[_Layer, str]:
    places: dict[_Layer, str] = {}
    count = 1  # input block 0 is conv_in
    for block in _blocks(layers, "down_blocks"):
        for index in _resnets(layers, "down_blocks", block):
            places["down_blocks", block, "resnets", index] = f"input_blocks.{count}.0"
            places["down_blocks", block, "attentions", index] = f"input_blocks.{count}.1"
            count += 1
        if ("down_blocks", block, "downsamplers", 0) in layers:
            places["down_blocks", block, "downsamplers", 0] = f"input_blocks.{count}.0"
            count += 1
    count = 0
    for block in _blocks(layers, "up_blocks"):
        for index in _resnets(layers, "up_blocks", block):
            places["up_blocks", block, "resnets", index] = f"output_blocks.{count}.0"
            places["up_blocks", block, "attentions", index] = f"output_blocks.{count}.1"
            count += 1
        attends = ("up_blocks", block, "attentions", 0) in layers
        places["up_blocks", block, "upsamplers", 0] = f"output_blocks.{count - 1}.{2 if attends else 1}"
    return places


def _blocks(layers: set[_Layer], side: str) -> list[int]:
    return sorted({layer[1] for layer in layers if layer[0] == side})


def _resnets(layers: set[_Layer], side: str, block: int) -> list[int]:
    """Return the indices of a block's layers; each has a residual network, with or without attention."""
    kinds = ("resnets", "attentions")
    return sorted({layer[3] for layer in layers if layer[:2] == (side, block) and layer[2] in kinds})
