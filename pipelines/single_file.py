"""A model in one file of the original layout, as far as its head tells: what it is, and the configurations it implies.

Widths and depths are read off the shapes, so that no table can disagree with the file. What shapes cannot tell is a
family's: the number of attention heads, the activation, the scale of the latents, the noise schedule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_zoo import families, header, keys
from lora_zoo.errors import first_few
from lora_zoo.header import Header
from pipelines.configs import Configs
from pipelines.errors import BadModel
from pipelines.original import CLIP, CLIP_OF_SDXL, CLIP_UNNAMED, OPEN_CLIP_OF_SDXL, UNET, VAE

#: Components' own keys; whatever else a file holds cannot change a picture.
ROOTS = (UNET, VAE, "cond_stage_model.", "conditioner.")
#: Keys under these roots that text to image has no use for.
UNUSED = re.compile(r".+(position_ids|logit_scale)|cond_stage_model\.transformer\.text_projection\.weight|.+\.loss\..+")

#: Marks that tools put into files trained with EDM's noise levels -> the family that they are known by.
_OTHER_SCHEDULES = {
    "edm_mean": "of the family of Playground 2.5",
    "edm_std": "of the family of Playground 2.5",
    "edm_vpred.sigma_max": "of the family of CosXL",
    "edm_vpred.sigma_min": "of the family of CosXL",
}
_BETAS = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_HEAD = 64  # channels of an attention head, in all but SD1.5's UNet, which has eight heads
_TOKENS = 49408


@dataclass(frozen=True)
class Checkpoint:
    """A file whose head was checked, and found to be of an architecture that is read."""

    head: Header
    sdxl: bool

    @property
    def text_prefixes(self) -> Mapping[str, str]:
        """Return component -> the beginning of its keys."""
        if self.sdxl:
            return {"text_encoder": CLIP_OF_SDXL, "text_encoder_2": OPEN_CLIP_OF_SDXL}
        named = any(key.startswith(CLIP) for key in self.head.tensors)
        return {"text_encoder": CLIP if named else CLIP_UNNAMED}

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of a tensor that must be there."""
        if key not in self.head.tensors:
            raise BadModel(f"{self.head.path}: the checkpoint lacks {key}")
        return self.head.tensors[key].shape

    def count(self, pattern: str) -> int:
        """Return one more than the greatest number that stands at the end of keys' beginnings."""
        found = (re.match(pattern, key) for key in self.head.tensors)
        return max((int(match[1]) + 1 for match in found if match), default=0)


def holds_unet(path: Path) -> bool:
    """Tell whether a file has a UNet in the original layout, whatever else may be wrong with it."""
    return any(key.startswith(UNET) for key in _head(path).tensors)


def read(path: Path) -> Checkpoint:
    """Read and check the head of a file, and refuse what is no model of a known architecture."""
    head = _head(path)
    if not any(key.startswith(UNET) for key in head.tensors):
        raise BadModel(f"{path}: {_stranger(head)}")
    if "conditioner.embedders.0.model.ln_final.weight" in head.tensors:
        raise BadModel(
            f"{path}: this is SDXL's refiner, which has no text encoder of its own kind; give the base model"
        )
    if any(key.startswith("cond_stage_model.model.") for key in head.tensors):
        raise BadModel(
            f"{path}: this is Stable Diffusion 2 in one file, which does not say what it predicts; "
            "give it as a folder in diffusers' layout"
        )
    for mark, family in _OTHER_SCHEDULES.items():
        if mark in head.tensors:
            raise BadModel(f"{path}: this is {family}, whose noise schedule (EDM) is not the one of SD1.5 and SDXL ({mark})")
    found = Checkpoint(head, sdxl=f"{UNET}label_emb.0.0.weight" in head.tensors)
    _check_components(found)
    return found


def configs(found: Checkpoint) -> Configs:
    """Return diffusers' configurations for a file."""
    texts = {name: _text(found, prefix) for name, prefix in found.text_prefixes.items()}
    if "text_encoder_2" in texts:
        texts["text_encoder_2"] = {**texts["text_encoder_2"], "hidden_act": "gelu"}
    return Configs(unet=_unet(found), vae=_vae(found), scheduler=_scheduler(found), texts=texts, zero_empty=found.sdxl)


def _head(path: Path) -> Header:
    return header.of_weights(path, header.CHECKPOINT)


def _stranger(head: Header) -> str:
    """Say what a file is that holds no model in the original layout."""
    for family, pattern in families.TRANSFORMERS.items():
        if any(pattern.search(key) for key in head.tensors):
            return f"a model of the family {family}, which is not read; SD1.5 and SDXL are"
    if keys.group(head.tensors):
        return "a LoRA, not a model; name it with --lora"
    if any(re.match(r"(down_blocks|up_blocks|mid_block|encoder|decoder)\.", key) for key in head.tensors):
        return "one component of a model; give the folder that holds them all"
    return f"no model in the layout of SD1.5 or SDXL; it holds {first_few(head.tensors)}"


def _check_components(found: Checkpoint) -> None:
    prefixes = {"VAE": VAE, **found.text_prefixes}
    lacking = [
        f"{name} ({prefix}…)"
        for name, prefix in prefixes.items()
        if not any(key.startswith(prefix) for key in found.head.tensors)
    ]
    if lacking:
        raise BadModel(f"{found.head.path}: the checkpoint lacks a whole component: {', '.join(lacking)}")


def _unet(found: Checkpoint) -> dict[str, Any]:
    levels = _levels(found)
    attends = [depth > 0 for _, depth in levels]
    widths = [width for width, _ in levels]
    layers = found.count(rf"{re.escape(UNET)}output_blocks\.(\d+)\.") // len(levels) - 1
    depths = [max(depth, 1) for _, depth in levels]
    context = next((key for key in found.head.tensors if re.search(r"attn2\.to_k\.weight$", key)), "")
    into = next((key for key in found.head.tensors if re.search(r"input_blocks.+proj_in\.weight$", key)), "")
    config: dict[str, Any] = {
        "sample_size": 128 if found.sdxl else 64,
        "in_channels": found.shape(f"{UNET}input_blocks.0.0.weight")[1],
        "out_channels": found.shape(f"{UNET}out.2.weight")[0],
        "block_out_channels": widths,
        "down_block_types": ["CrossAttnDownBlock2D" if one else "DownBlock2D" for one in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if one else "UpBlock2D" for one in reversed(attends)],
        "layers_per_block": layers,
        "cross_attention_dim": found.shape(context)[1],
        "transformer_layers_per_block": depths,
        "use_linear_projection": len(found.shape(into)) == 2,
        "attention_head_dim": [max(1, width // _HEAD) for width in widths] if found.sdxl else 8,
    }
    if found.sdxl:
        config["addition_embed_type"] = "text_time"
        config["addition_time_embed_dim"] = 256
        config["projection_class_embeddings_input_dim"] = found.shape(f"{UNET}label_emb.0.0.weight")[1]
    return config


def _levels(found: Checkpoint) -> list[tuple[int, int]]:
    """Return for each resolution the width of its layers and the depth of their transformers."""
    levels: list[set[tuple[int, int]]] = [set()]
    for place in range(1, found.count(rf"{re.escape(UNET)}input_blocks\.(\d+)\.")):
        block = f"{UNET}input_blocks.{place}."
        if f"{block}0.op.weight" in found.head.tensors:
            levels.append(set())
            continue
        depth = found.count(rf"{re.escape(block)}1\.transformer_blocks\.(\d+)\.")
        levels[-1].add((found.shape(f"{block}0.in_layers.2.weight")[0], depth))
    if any(len(level) != 1 for level in levels):
        raise BadModel(
            f"{found.head.path}: the layers of one resolution differ in width or depth, or there are none; "
            "only SD1.5 and SDXL at their full depth are read from one file"
        )
    return [next(iter(level)) for level in levels]


def _vae(found: Checkpoint) -> dict[str, Any]:
    levels = found.count(rf"{re.escape(VAE)}encoder\.down\.(\d+)\.")
    widths = [found.shape(f"{VAE}encoder.down.{level}.block.0.conv1.weight")[0] for level in range(levels)]
    return {
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": found.count(rf"{re.escape(VAE)}encoder\.down\.0\.block\.(\d+)\."),
        "latent_channels": found.shape(f"{VAE}post_quant_conv.weight")[0],
        "scaling_factor": 0.13025 if found.sdxl else 0.18215,
        "force_upcast": found.sdxl,
    }


def _text(found: Checkpoint, prefix: str) -> dict[str, Any]:
    is_open = prefix == OPEN_CLIP_OF_SDXL
    embeddings = "" if is_open else "embeddings."
    positions = "positional_embedding" if is_open else "embeddings.position_embedding.weight"
    blocks, inner = ("transformer.resblocks", "mlp.c_fc") if is_open else ("encoder.layers", "mlp.fc1")
    tokens, width = found.shape(f"{prefix}{embeddings}token_embedding.weight")
    if tokens != _TOKENS:
        raise BadModel(f"{found.head.path}: a text encoder for {tokens} tokens; CLIP's vocabulary has {_TOKENS}")
    return {
        "vocab_size": tokens,
        "hidden_size": width,
        "intermediate_size": found.shape(f"{prefix}{blocks}.0.{inner}.weight")[0],
        "num_hidden_layers": found.count(rf"{re.escape(prefix + blocks)}\.(\d+)\."),
        "num_attention_heads": max(1, width // _HEAD),
        "max_position_embeddings": found.shape(prefix + positions)[0],
        "hidden_act": "quick_gelu",
        "projection_dim": found.shape(f"{prefix}text_projection")[1] if is_open else width,
        "bos_token_id": _TOKENS - 2,
        "eos_token_id": _TOKENS - 1,
        "pad_token_id": 0 if is_open else _TOKENS - 1,
    }


def _scheduler(found: Checkpoint) -> dict[str, Any]:
    """Return the noise schedule that both families share, and what the file says that it was trained to predict."""
    stated = found.head.metadata.get("modelspec.prediction_type", "").lower()
    velocity = "v_pred" in found.head.tensors or stated in ("v", "v_prediction", "v-prediction")
    config: dict[str, Any] = {
        **_BETAS,
        "_class_name": "EulerDiscreteScheduler" if found.sdxl else "PNDMScheduler",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "prediction_type": "v_prediction" if velocity else "epsilon",
    }
    if found.sdxl:  # SD1.5's own file leaves the spacing to each scheduler
        config["timestep_spacing"] = "leading"
    if "ztsnr" in found.head.tensors:
        config |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return config


def unaccounted(found: Checkpoint, used: Iterable[str]) -> list[str]:
    """Return the keys of components that nothing was made of, though nothing says that they are of no use."""
    taken = set(used)
    rest = (key for key in found.head.tensors if key not in taken and key.startswith(ROOTS))
    return [key for key in rest if not UNUSED.fullmatch(key)]
