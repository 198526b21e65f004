"""Models by name or folder, described from their small JSON files alone: nothing heavy is imported or read here.

A model differs from another by its row only. The architecture is SD1.5's: one text encoder, one UNet, one VAE, at any
width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from composer.errors import UnknownChoice
from composer.plan import Capability
from lora_zoo import catalog
from pipelines.errors import BadModel

_PARTS = ("tokenizer", "text_encoder", "unet", "vae", "scheduler")
_SD15_CONTEXT = 768  # the width of SD1.5's text encoder; its LoRAs fit nothing else


@dataclass(frozen=True)
class Defaults:
    """What a request gets for what it leaves open."""

    num_inference_steps: int
    guidance_scale: float
    scheduler: str
    max_rows: int  # the most rows of one UNet call; the machine's memory decides, not the picture


@dataclass(frozen=True)
class ModelSpec:
    """All that is known of a model before it is loaded."""

    name: str
    folder: Path
    family: str | None  # of the LoRAs that fit; None: unknown, their layers decide
    width: int
    height: int
    latent_factor: int  # pixels per latent pixel
    size_multiple: int  # widths and heights are multiples of this
    defaults: Defaults
    capabilities: frozenset[Capability]


#: For models known by name; any other folder gets what SD1.5 is usually run with.
_DEFAULTS: Mapping[str, Defaults] = {"tiny": Defaults(20, 4.0, "ddim", 32)}
_SD15_DEFAULTS = Defaults(30, 7.5, "ddim", 16)


def names() -> tuple[str, ...]:
    """Return the names of the models that come with the project."""
    return tuple(model.name for model in catalog.models())


def find(name: str) -> ModelSpec:
    """Return the model of this name, or the one in this folder."""
    for model in catalog.models():
        if model.name == name:
            return _read(name, model.path, model.family, _DEFAULTS.get(name, _SD15_DEFAULTS))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _read(name, folder.resolve(), None, _SD15_DEFAULTS)
    if len(folder.parts) > 1:
        raise BadModel(f"there is no model folder {name}")
    raise UnknownChoice("model", name, names())


def _read(name: str, folder: Path, family: str | None, defaults: Defaults) -> ModelSpec:
    missing = [part for part in _PARTS if not (folder / part).is_dir()]
    if missing:
        raise BadModel(f"{folder} is not a diffusers folder of SD1.5's architecture; it lacks {', '.join(missing)}")
    if (folder / "text_encoder_2").is_dir():
        raise BadModel(f"{folder} holds two text encoders (SDXL); only SD1.5's architecture is read")
    unet, vae = _config(folder / "unet"), _config(folder / "vae")
    try:
        context, levels = unet["cross_attention_dim"], len(unet["block_out_channels"])
        factor = 2 ** (len(vae.get("block_out_channels") or vae["decoder_block_out_channels"]) - 1)
        size = int(unet["sample_size"]) * factor
    except (KeyError, TypeError, ValueError) as error:
        raise BadModel(f"the configuration of {folder} lacks what SD1.5's architecture has: {error}") from error
    if family is None and context == _SD15_CONTEXT:
        family = "sd15"
    multiple = factor * 2 ** (levels - 1)
    return ModelSpec(name, folder, family, size, size, factor, multiple, defaults, _capabilities(unet))


def _capabilities(unet: Mapping[str, Any]) -> frozenset[Capability]:
    """Return what passes may ask of a UNet of this configuration."""
    found: dict[Capability, bool] = {
        "cross-attention": any("CrossAttn" in kind for kind in unet.get("down_block_types", ())),
        "deep features": len(unet["block_out_channels"]) > 1,
    }
    return frozenset(capability for capability, there in found.items() if there)


def _config(part: Path) -> dict:
    try:
        config = json.loads((part / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadModel(f"cannot read {part / 'config.json'}: {error}") from error
    if not isinstance(config, dict):
        raise BadModel(f"{part / 'config.json'} is not a configuration")
    return config
