"""Checkpoints of SD1.5's and SDXL's true structure at reduced width: as diffusers folders and as original files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pipelines import clip_tokens, original
from pipelines.original import Origins

TOKENS = 49408
#: As published beside the weights.
_SCHEDULER: Mapping[str, object] = {
    "_class_name": "PNDMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
_SCHEDULER_OF_SDXL: Mapping[str, object] = {
    **_SCHEDULER,
    "_class_name": "EulerDiscreteScheduler",
    "interpolation_type": "linear",
    "sample_max_value": 1.0,
    "timestep_spacing": "leading",
    "use_karras_sigmas": False,
}

Modules = Mapping[str, nn.Module]


@dataclass(frozen=True)
class Widths:
    """What sets a reduced model apart from the true one."""

    sdxl: bool
    channels: tuple[int, ...]
    depths: tuple[int, ...]  # of the transformers, per level; SD1.5's are all 1
    texts: tuple[int, ...]  # widths of the text encoders, multiples of a head's 64
    text_layers: int = 2
    second_layers: int = 0  # of the second text encoder; 0: as the first
    vae: int = 32


SD = Widths(False, (32, 32, 64, 64), (1, 1, 1, 1), (64,))
XL = Widths(True, (32, 64, 128), (1, 1, 2), (64, 128))
TRUE_SD = Widths(False, (320, 640, 1280, 1280), (1, 1, 1, 1), (768,), text_layers=12, vae=128)
TRUE_XL = Widths(True, (320, 640, 1280), (1, 2, 10), (768, 1280), vae=128)


def modules(widths: Widths) -> dict[str, nn.Module]:
    """Return a model's modules, with whatever weights torch gives them now."""
    made: dict[str, nn.Module] = {"unet": _unet(widths), "vae": _vae(widths)}
    for component, width in zip(("text_encoder", "text_encoder_2"), widths.texts, strict=False):
        made[component] = _text(component, width, widths)
    return made


def _unet(widths: Widths) -> UNet2DConditionModel:
    attends = [not widths.sdxl or level > 0 for level in range(len(widths.channels))]
    if not widths.sdxl:
        attends[-1] = False
    down = ["CrossAttnDownBlock2D" if one else "DownBlock2D" for one in attends]
    config: dict[str, Any] = {
        "sample_size": 128 if widths.sdxl else 64,
        "block_out_channels": widths.channels,
        "down_block_types": down,
        "up_block_types": [one.replace("Down", "Up") for one in reversed(down)],
        "cross_attention_dim": sum(widths.texts),
        "attention_head_dim": [max(1, width // 64) for width in widths.channels] if widths.sdxl else 8,
    }
    if widths.sdxl:
        config |= {
            "transformer_layers_per_block": widths.depths,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": widths.texts[-1] + 6 * 256,
        }
    return UNet2DConditionModel(**config)


def _vae(widths: Widths) -> AutoencoderKL:
    channels = [widths.vae * factor for factor in (1, 2, 4, 4)] if widths.vae > 32 else [widths.vae] * 4
    config: dict[str, Any] = {
        "block_out_channels": channels,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 2,
        "scaling_factor": 0.13025 if widths.sdxl else 0.18215,
        "force_upcast": widths.sdxl,
    }
    return AutoencoderKL(**config)


def _text(component: str, width: int, widths: Widths) -> nn.Module:
    second = component == "text_encoder_2"
    layers = {768: 12, 1280: 32}.get(width, second and widths.second_layers or widths.text_layers)
    config: dict[str, Any] = {
        "vocab_size": TOKENS,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "max_position_embeddings": 77,
        "hidden_act": "gelu" if second else "quick_gelu",
        "projection_dim": width,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 0 if second else 49407,
    }
    return (CLIPTextModelWithProjection if second else CLIPTextModel)(CLIPTextConfig(**config))


def seeded(widths: Widths, seed: int = 0) -> dict[str, nn.Module]:
    """Return modules with random weights that a seed decides."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return modules(widths)


def save_folder(made: Modules, folder: Path, prediction: str = "epsilon") -> Path:
    """Write a model as a folder that diffusers' own pipelines load."""
    sdxl = "text_encoder_2" in made
    scheduler = {**(_SCHEDULER_OF_SDXL if sdxl else _SCHEDULER), "prediction_type": prediction}
    parts: dict[str, Any] = dict(made)
    for component in made:
        if component.startswith("text_encoder"):
            parts[component.replace("text_encoder", "tokenizer")] = clip_tokens.tokenizer(component)
    index: dict[str, object] = {"_class_name": "StableDiffusionXLPipeline" if sdxl else "StableDiffusionPipeline"}
    index |= {"scheduler": ["diffusers", scheduler["_class_name"]]}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
        library = "transformers" if name.startswith(("text", "token")) else "diffusers"
        index[name] = [library, CLIPTokenizer.__name__ if name.startswith("token") else type(part).__name__]
    nothing = [None, None]
    index |= (
        {"force_zeros_for_empty_prompt": True} if sdxl else {"safety_checker": nothing, "feature_extractor": nothing}
    )
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler), encoding="utf-8")
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def origins(made: Modules) -> dict[str, Origins]:
    """Return where the original layout holds each component's parameters."""
    names = {component: [name for name, _ in module.named_parameters()] for component, module in made.items()}
    found: dict[str, Origins] = {"unet": original.of_unet(names["unet"]), "vae": original.of_vae(names["vae"])}
    if "text_encoder_2" not in made:
        return {**found, "text_encoder": original.of_clip(names["text_encoder"], original.CLIP)}
    found["text_encoder"] = original.of_clip(names["text_encoder"], original.CLIP_OF_SDXL)
    found["text_encoder_2"] = original.of_open_clip(names["text_encoder_2"], original.OPEN_CLIP_OF_SDXL)
    return found


def original_tensors(made: Modules) -> dict[str, Tensor]:
    """Return a model's tensors as a file in the original layout holds them, the 1 x 1 convolutions of its VAE too."""
    tensors: dict[str, Tensor] = {}
    fused: dict[str, list[Tensor]] = {}
    for component, by_name in origins(made).items():
        for name, origin in by_name.items():
            value = cast(nn.Module, made[component]).get_parameter(name).detach()
            if origin.third is not None:
                fused.setdefault(origin.key, [value] * 3)[origin.third] = value
                continue
            if ".mid.attn_1." in origin.key and value.ndim == 2:
                value = value[:, :, None, None]
            tensors[origin.key] = (value.T if origin.transposed else value).contiguous()
    return tensors | {key: torch.cat(thirds) for key, thirds in fused.items()}


def save_single(
    made: Modules, path: Path, extra: Mapping[str, Tensor] | None = None, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a model as one file in the original layout."""
    save_file({**original_tensors(made), **(extra or {})}, str(path), dict(metadata or {}))
    return path
