"""Which family of models a file is made for, told from its keys and shapes, and which family a model is of."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lora_zoo import keys
from lora_zoo.errors import BadFile
from lora_zoo.header import Header
from lora_zoo.keys import Key

UNKNOWN = "unknown"

Groups = Mapping[tuple[str, str], list[Key]]
Layout = Mapping[str, Mapping[str, tuple[int, ...]]]

#: Beginnings of what files state about their base model -> family, for ModelSpec and for kohya.
_STATED = {
    "stable-diffusion-v1": "sd15",
    "stable-diffusion-v2": "sd2",
    "stable-diffusion-v3": "sd3",
    "stable-diffusion-3": "sd3",
    "stable-diffusion-xl": "sdxl",
    "flux": "flux",
    "sd_v1": "sd15",
    "sd_v2": "sd2",
    "sd3": "sd3",
    "sdxl": "sdxl",
    "sd15": "sd15",
    "tiny": "tiny",
    "medley-tiny": "tiny",
}
#: Modules that only one family of transformers has.
TRANSFORMERS = {
    "flux": re.compile(r"double_blocks[._]\d|single_(transformer_)?blocks[._]\d"),
    "sd3": re.compile(r"joint_blocks[._]\d"),
    "wan": re.compile(r"blocks[._]\d+[._](self|cross)_attn[._]"),
}
#: diffusers calls the blocks of several transformers alike; how wide they are tells whose they are, and how many.
_BLOCKS = re.compile(r"(?<!\d[._])transformer_blocks[._](\d+)[._]attn2?[._](to|add)_[qkv]")
_BLOCK_WIDTHS = {1536: "sd3", 2432: "sd3", 3072: "flux"}
_MOST_BLOCKS = {"sd3": 38, "flux": 19}
#: Width of the text embeddings that a UNet attends to -> family.
BY_WIDTH = {768: "sd15", 1024: "sd2", 2048: "sdxl"}
_TINY_WIDTH = 256  # no published Stable Diffusion has text embeddings as narrow as this
_TO_KEYS = re.compile(r"attn2[._]to_[kv]$")
_DEEP = re.compile(r"(input_blocks|output_blocks|down_blocks|up_blocks).*transformer_blocks[._]([2-9]|\d\d)[._]")

#: Parts whose second dimension is the width of a layer's input.
_INPUT_SIDE = {("lora", "down"), ("full", "weight"), ("loha", "w1_b"), ("glora", "a2")}


def of_file(head: Header, groups: Groups) -> str:
    """Return the family a file is made for: as it states, or as its layers tell."""
    stated = of_metadata(head)
    return of_layers(head, groups) if stated == UNKNOWN else stated


def of_metadata(head: Header) -> str:
    """Return the family that a file states, whatever its layers are."""
    for key in ("modelspec.architecture", "ss_base_model_version"):
        stated = head.metadata.get(key, "").lower()
        for beginning, family in _STATED.items():
            if stated.startswith(beginning):
                return family
    return UNKNOWN


def of_layers(head: Header, groups: Groups) -> str:
    """Return the family that a file's own names and shapes tell of, whatever it states."""
    for family, pattern in TRANSFORMERS.items():
        if any(pattern.search(raw) for raw in head.tensors):
            return family
    if blocks := _of_blocks(
        {key.raw: head.tensors[key.raw].shape for g in groups.values() for key in g if _reads(key)}
    ):
        return blocks
    if any(component == "text_encoder_2" for component, _ in groups):
        return "sdxl"
    widths = (_width(head, group) for (_, module), group in groups.items() if _TO_KEYS.search(module))
    width = next(filter(None, widths), None)
    if width is not None:
        return _of_width(width)
    return "sdxl" if any(_DEEP.search(module) for _, module in groups) else UNKNOWN


def of_layout(layout: Layout) -> str:
    """Return the family of a model."""
    for family, pattern in TRANSFORMERS.items():
        if any(pattern.search(path) for path in layout.get("transformer", {})):
            return family
    if blocks := _of_blocks(layout.get("transformer", {})):
        return blocks
    if "text_encoder_2" in layout:
        return "sdxl"
    for path, shape in layout.get("unet", {}).items():
        if _TO_KEYS.search(path):
            return _of_width(shape[1])
    return UNKNOWN


def _of_blocks(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return the family of transformer blocks by diffusers' names, from what reads their states; "" if there are none.

    The names alone would take Flux for SD3, and others of the same build for either.
    """
    found = {raw: match for raw in shapes if (match := _BLOCKS.search(raw))}
    widths = {shapes[raw][1] for raw in found if len(shapes[raw]) > 1}
    if not found or len(widths) != 1:
        return UNKNOWN if found else ""
    family = _BLOCK_WIDTHS.get(widths.pop(), UNKNOWN)
    most = max(int(match[1]) for match in found.values())
    return family if most < _MOST_BLOCKS.get(family, 0) else UNKNOWN


def _reads(key: Key) -> bool:
    return (key.kind, key.part) in _INPUT_SIDE


def explained(error: BadFile, head: Header, layout: Layout) -> BadFile:
    """Return the error again, with the reason why nothing fits if file and model are of different families."""
    made_for, model = of_layers(head, keys.group(head.tensors)), of_layout(layout)
    if UNKNOWN in (made_for, model) or made_for == model:
        return error
    return type(error)(f"{error}. The file is made for {made_for}; this model is {model}")


def _width(head: Header, group: list[Key]) -> int | None:
    """Return the width of the text embeddings that a UNet's layer attends to, if its parts tell."""
    for key in group:
        shape = head.tensors[key.raw].shape
        if (key.kind, key.part) in _INPUT_SIDE and len(shape) >= 2:
            return shape[1]
    return None


def _of_width(width: int) -> str:
    return "tiny" if width <= _TINY_WIDTH else BY_WIDTH.get(width, UNKNOWN)
