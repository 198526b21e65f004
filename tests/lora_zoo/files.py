"""Synthetic LoRA files: the same factors for a tiny layout, spelled in every dialect."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

_ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0"

LAYOUT: dict[str, dict[str, tuple[int, ...]]] = {
    "unet": {
        "conv_in": (8, 4, 3, 3),
        "down_blocks.0.resnets.0.conv1": (8, 8, 3, 3),
        "down_blocks.0.attentions.0.proj_in": (8, 8, 1, 1),
        f"{_ATTENTION}.attn1.to_q": (8, 8),
        f"{_ATTENTION}.attn1.to_out.0": (8, 8),
        f"{_ATTENTION}.attn2.to_k": (8, 12),
        "down_blocks.0.downsamplers.0.conv": (8, 8, 3, 3),
    },
    "text_encoder": {
        "encoder.layers.0.self_attn.q_proj": (12, 12),
        "encoder.layers.0.self_attn.out_proj": (12, 12),
        "encoder.layers.0.mlp.fc1": (24, 12),
    },
}
SGM = {  # as the original code names them
    "conv_in": "input_blocks.0.0",
    "down_blocks.0.resnets.0.conv1": "input_blocks.1.0.in_layers.2",
    "down_blocks.0.attentions.0.proj_in": "input_blocks.1.1.proj_in",
    f"{_ATTENTION}.attn1.to_q": "input_blocks.1.1.transformer_blocks.0.attn1.to_q",
    f"{_ATTENTION}.attn1.to_out.0": "input_blocks.1.1.transformer_blocks.0.attn1.to_out.0",
    f"{_ATTENTION}.attn2.to_k": "input_blocks.1.1.transformer_blocks.0.attn2.to_k",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
}

Spell = Callable[[str, str], str]


@dataclass(frozen=True)
class Dialect:
    """How a dialect names a layer, and the endings of its down, up and alpha."""

    name: str
    spell: Spell
    endings: tuple[str, str, str | None]
    components: tuple[str, ...] = ("unet", "text_encoder")
    modules: Callable[[str], bool] = field(default=lambda path: True)


def _kohya(te: str, sgm: bool = False) -> Spell:
    def spell(component: str, path: str) -> str:
        stem = SGM[path] if sgm and component == "unet" else path
        return ("lora_unet_" if component == "unet" else te) + stem.replace(".", "_")

    return spell


def _old(unet: str) -> Spell:
    def spell(component: str, path: str) -> str:
        if component == "unet":
            head, _, last = path.removesuffix(".0").rpartition(".")
            return f"{unet}{head}.processor.{last}"
        last = path.rpartition(".")[2]
        old = {"q_proj": "to_q", "out_proj": "to_out"}[last]
        return f"text_encoder.text_model.{path.removesuffix(last)}{old}"

    return spell


def _comfy(component: str, path: str) -> str:
    return f"diffusion_model.{SGM[path]}" if component == "unet" else f"clip_l.transformer.text_model.{path}"


_AB = (".lora_A.weight", ".lora_B.weight")
_KOHYA = (".lora_down.weight", ".lora_up.weight", ".alpha")

DIALECTS: Mapping[str, Dialect] = {
    "kohya": Dialect("kohya", _kohya("lora_te_text_model_"), _KOHYA),
    "kohya-te1-short": Dialect("kohya", _kohya("lora_te1_"), _KOHYA),
    "kohya-sgm": Dialect("kohya", _kohya("lora_te1_text_model_", sgm=True), _KOHYA),
    "diffusers": Dialect("diffusers", lambda c, p: f"{c}.{p}", (*_AB, ".alpha")),
    "diffusers-text-model": Dialect(
        "diffusers", lambda c, p: f"unet.{p}" if c == "unet" else f"{c}.text_model.{p}", (*_AB, None)
    ),
    "diffusers-old": Dialect(
        "diffusers-old",
        _old("unet."),
        ("_lora.down.weight", "_lora.up.weight", None),
        modules=lambda path: ".attn" in path or "self_attn" in path,
    ),
    "diffusers-older": Dialect(
        "diffusers-old",
        _old(""),
        ("_lora.down.weight", "_lora.up.weight", None),
        ("unet",),
        modules=lambda path: ".attn" in path,
    ),
    "diffusers-linear-layer": Dialect(
        "diffusers-old",
        lambda c, p: f"{c}.text_model.{p}",
        (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight", None),
        ("text_encoder",),
    ),
    "peft": Dialect("peft", lambda c, p: f"base_model.model.{p}", (*_AB, None)),
    "comfyui": Dialect("comfyui", _comfy, _KOHYA),
    "comfyui-ab": Dialect("comfyui", _comfy, (*_AB, None)),
}


@dataclass(frozen=True)
class Made:
    """What was written, and the delta each layer should get from it."""

    tensors: dict[str, Tensor]
    deltas: dict[tuple[str, str], Tensor]


def make(dialect: Dialect, seed: int = 0, dtype: torch.dtype = torch.float32) -> Made:
    """Make a file's tensors with a rank and an alpha of its own for every layer, alphas where the dialect has them."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    deltas: dict[tuple[str, str], Tensor] = {}
    layers = [(c, p) for c in dialect.components for p in LAYOUT[c] if dialect.modules(p)]
    for index, (component, path) in enumerate(layers):
        shape, rank = LAYOUT[component][path], 1 + index % 3
        down = torch.randn(rank, *shape[1:], generator=generator).to(dtype)
        up = torch.randn(shape[0], rank, *(1 for _ in shape[2:]), generator=generator).to(dtype)
        stem, (a, b, alpha_ending) = dialect.spell(component, path), dialect.endings
        tensors |= {stem + a: down, stem + b: up}
        alpha = float(rank)
        if alpha_ending is not None:
            alpha = 0.5 + index
            tensors[stem + alpha_ending] = torch.tensor(alpha, dtype=dtype)
        delta = torch.einsum("or,r...->o...", up.float().flatten(1), down.float()) * alpha / rank
        deltas[component, path] = delta
    return Made(tensors, deltas)


def write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata)
    return path
