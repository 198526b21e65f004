"""Minute models with random weights, saved as real diffusers folders: real classes, real files, no mocks."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"


@dataclass(frozen=True)
class Shape:
    """What sets one test model apart from another."""

    channels: tuple[int, ...]
    cross: tuple[bool, ...]  # per level, whether it has cross-attention
    layers: int
    context: int
    prediction: str
    tiny_vae: bool
    vae_levels: int
    sample: int = 8
    latent_channels: int = 4
    linear: bool = False  # whether transformers begin with a linear layer, and heads are of one width


#: SD1.5's structure, block for block, at reduced width; and what SD2 made of it.
SD15 = Shape((32, 32, 64, 64), (True, True, True, False), 2, 32, "epsilon", tiny_vae=False, vae_levels=4)
SD2 = replace(SD15, prediction="v_prediction", linear=True)
SMALL = Shape((16, 32), (True, False), 1, 24, "v_prediction", tiny_vae=True, vae_levels=2)


def byte_alphabet() -> list[str]:
    """Return the 256 characters that stand for bytes in byte-level BPE: printable ones for themselves."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [chr(256 + n) for n in range(256 - len(plain))]
    return [*map(chr, plain), *others]


def tokenizer() -> CLIPTokenizer:
    alphabet = byte_alphabet()
    merges: Any = [("a", "t</w>"), ("c", "at</w>"), ("o", "n</w>")]
    tokens = [*alphabet, *(f"{c}</w>" for c in alphabet), *("".join(pair) for pair in merges), START, END]
    return CLIPTokenizer(
        vocab={token: place for place, token in enumerate(tokens)},
        merges=merges,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        model_max_length=77,
    )


def text_encoder(width: int, reader: CLIPTokenizer) -> CLIPTextModel:
    end = reader.convert_tokens_to_ids(END)
    config: dict[str, Any] = {
        "vocab_size": len(reader),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 77,
        "bos_token_id": reader.convert_tokens_to_ids(START),
        "eos_token_id": end,
        "pad_token_id": end,
    }
    return CLIPTextModel(CLIPTextConfig(**config))


def unet(shape: Shape) -> UNet2DConditionModel:
    down = ["CrossAttnDownBlock2D" if cross else "DownBlock2D" for cross in shape.cross]
    up = ["CrossAttnUpBlock2D" if cross else "UpBlock2D" for cross in reversed(shape.cross)]
    config: dict[str, Any] = {
        "sample_size": shape.sample,
        "in_channels": shape.latent_channels,
        "out_channels": shape.latent_channels,
        "block_out_channels": shape.channels,
        "down_block_types": down,
        "up_block_types": up,
        "layers_per_block": shape.layers,
        "cross_attention_dim": shape.context,
        "attention_head_dim": [channels // 8 for channels in shape.channels] if shape.linear else 4,
        "use_linear_projection": shape.linear,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**config)


def vae(shape: Shape) -> AutoencoderTiny | AutoencoderKL:
    widths, ones = [8] * shape.vae_levels, [1] * shape.vae_levels
    if shape.tiny_vae:
        config: dict[str, Any] = {
            "encoder_block_out_channels": widths,
            "decoder_block_out_channels": widths,
            "num_encoder_blocks": ones,
            "num_decoder_blocks": ones,
            "latent_channels": shape.latent_channels,
        }
        return AutoencoderTiny(**config)
    config = {
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * shape.vae_levels,
        "up_block_types": ["UpDecoderBlock2D"] * shape.vae_levels,
        "latent_channels": shape.latent_channels,
        "norm_num_groups": 4,
    }
    return AutoencoderKL(**config)


def scheduler(shape: Shape) -> DDIMScheduler:
    """Return SD1.5's noise schedule."""
    config: dict[str, Any] = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "prediction_type": shape.prediction,
    }
    return DDIMScheduler(**config)


def build(shape: Shape, folder: Path, seed: int = 0) -> Path:
    """Save a model of this shape as a folder that diffusers' own pipeline loads."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = tokenizer()
        parts = {
            "tokenizer": reader,
            "text_encoder": text_encoder(shape.context, reader),
            "unet": unet(shape),
            "vae": vae(shape),
            "scheduler": scheduler(shape),
        }
    index: dict[str, object] = {"_class_name": "StableDiffusionPipeline"}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
        library = "transformers" if name in ("tokenizer", "text_encoder") else "diffusers"
        index[name] = [library, type(part).__name__]
    unused = {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
    (folder / "model_index.json").write_text(json.dumps({**index, **unused}), encoding="utf-8")
    return folder
