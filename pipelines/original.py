"""The original layout of SD1.5 and SDXL files: under which key lies each parameter of diffusers' modules.

diffusers' own conversion leaves out what it does not know and leaves empty what it does not find; a table of origins,
derived from the modules' own names, lets both be errors that tell the file's own keys. Tests compare the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lora_zoo import sgm

UNET = "model.diffusion_model."
VAE = "first_stage_model."
CLIP = "cond_stage_model.transformer.text_model."
CLIP_UNNAMED = "cond_stage_model.transformer."  # as transformers 5 names its modules, and some merges do
CLIP_OF_SDXL = "conditioner.embedders.0.transformer.text_model."
OPEN_CLIP_OF_SDXL = "conditioner.embedders.1.model."


@dataclass(frozen=True)
class Origin:
    """Where a file holds a parameter: a tensor, or one of the three parts of a fused projection."""

    key: str
    third: int | None = None  # rows of the queries, keys or values
    transposed: bool = False

    def stated(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape that the file must state for a parameter of this shape."""
        if self.third is not None:
            return (3 * shape[0], *shape[1:])
        return shape[::-1] if self.transposed else shape


#: Parameter of a module -> its origin.
Origins = Mapping[str, Origin]


def of_unet(names: Iterable[str]) -> Origins:
    """Return the origins of a UNet's parameters."""
    known = list(names)
    modules = dict.fromkeys(name.rpartition(".")[0] for name in known)
    paths = {path: original for original, path in sgm.names(modules).items()}
    return {name: Origin(f"{UNET}{paths[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}") for name in known}


#: Parts of a VAE's parameter names, as diffusers has them -> as the original has them.
_VAE_PARTS = (
    (re.compile(r"mid_block\.resnets\.(\d+)"), lambda m: f"mid.block_{int(m[1]) + 1}"),
    (re.compile(r"mid_block\.attentions\.0"), "mid.attn_1"),
    (re.compile(r"down_blocks\.(\d+)\.resnets"), r"down.\1.block"),
    (re.compile(r"down_blocks\.(\d+)\.downsamplers\.0"), r"down.\1.downsample"),
    (re.compile(r"up\.(\d+)\.resnets"), r"up.\1.block"),
    (re.compile(r"up\.(\d+)\.upsamplers\.0"), r"up.\1.upsample"),
    (re.compile(r"attn_1\.group_norm"), "attn_1.norm"),
    (re.compile(r"attn_1\.to_([qkv])"), r"attn_1.\1"),
    (re.compile(r"attn_1\.to_out\.0"), "attn_1.proj_out"),
    (re.compile(r"conv_shortcut"), "nin_shortcut"),
    (re.compile(r"conv_norm_out"), "norm_out"),
)
_VAE_UP = re.compile(r"up_blocks\.(\d+)")


def of_vae(names: Iterable[str]) -> Origins:
    """Return the origins of a VAE's parameters. The original numbers the decoder's blocks from the picture's side."""
    known = list(names)
    last = max((int(match[1]) for name in known if (match := _VAE_UP.search(name))), default=0)
    found: dict[str, Origin] = {}
    for name in known:
        original = _VAE_UP.sub(lambda match: f"up.{last - int(match[1])}", name)
        for pattern, replacement in _VAE_PARTS:
            original = pattern.sub(replacement, original)
        found[name] = Origin(VAE + original)
    return found


def of_clip(names: Iterable[str], prefix: str) -> Origins:
    """Return the origins of the parameters of OpenAI's CLIP text model."""
    return {name: Origin(prefix + name.removeprefix("text_model.")) for name in names}


#: Parts of the names in OpenCLIP's text model: transformers' -> the original's.
_OPEN_CLIP_PARTS = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final",
    "encoder.layers": "transformer.resblocks",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn": "attn",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_FUSED = re.compile(r"(.+\.attn\.)([qkv])_proj\.(weight|bias)")


def of_open_clip(names: Iterable[str], prefix: str) -> Origins:
    """Return the origins of the parameters of OpenCLIP's text model, whose attention has one projection for three."""
    found: dict[str, Origin] = {}
    for name in names:
        original = name.removeprefix("text_model.")
        for ours, theirs in _OPEN_CLIP_PARTS.items():
            original = original.replace(ours, theirs)
        if match := _FUSED.fullmatch(original):
            found[name] = Origin(f"{prefix}{match[1]}in_proj_{match[3]}", third="qkv".index(match[2]))
        elif name == "text_projection.weight":
            found[name] = Origin(f"{prefix}text_projection", transposed=True)
        else:
            found[name] = Origin(prefix + original)
    return found
