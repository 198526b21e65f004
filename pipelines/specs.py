"""Models by name, folder, file or hub id, described from their small files or heads alone: nothing heavy is imported.

A model differs from another by its row only. The architectures are SD1.5's, with one text encoder, and SDXL's, with
two; at any width.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from composer.blocks import UnetBlocks, of_unet
from composer.errors import UnknownChoice
from composer.plan import Capability
from lora_zoo import catalog, families
from lora_zoo.errors import BadFile, nearest_file, shortened
from lora_zoo.foreign import files
from pipelines import configs, hub, single_file
from pipelines.configs import Configs
from pipelines.errors import BadModel


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
    path: Path  # a folder in diffusers' layout, or one file in the original layout
    family: str | None  # of the LoRAs that fit; None: unknown, their layers decide
    width: int
    height: int
    latent_factor: int  # pixels per latent pixel
    defaults: Defaults
    capabilities: frozenset[Capability]
    blocks: UnetBlocks  # that a LoRA's weight may differ in
    configs: Configs
    hub_id: str | None = None  # where the weights come from, if the folder may not hold them yet


_OWN_MODEL = " A model of your own is named by its folder or file, or as OWNER/NAME on the Hugging Face hub."
#: For models known by name; any other gets what its architecture is usually run with.
_DEFAULTS: Mapping[str, Defaults] = {"tiny": Defaults(20, 4.0, "ddim", 32)}
#: Models that are offered to others under names that say nothing of this machine, and where they are.
_OFFERED: dict[str, str] = {}
_SD15_DEFAULTS = Defaults(30, 7.5, "ddim", 16)
_SDXL_DEFAULTS = Defaults(30, 5.0, "euler", 8)


def names() -> tuple[str, ...]:
    """Return the names of the models that come with the project."""
    return tuple(model.name for model in catalog.models())


def offer(place: str) -> str:
    """Return a name under which `find` knows a model from now on that is named by its folder or file: its last part.

    Names of models that come with the project, and hub ids, stay as they are.
    """
    path = Path(place).expanduser()
    if place in names() or not path.exists():
        return place
    path = path.resolve()
    stem = path.name if path.is_dir() else path.stem
    taken = {*names(), *(name for name, known in _OFFERED.items() if known != str(path))}
    name = next(one for one in (stem, *(f"{stem} ({n})" for n in range(2, 10_000))) if one not in taken)
    _OFFERED[name] = str(path)
    return name


def find(name: str) -> ModelSpec:
    """Return the model of this name, or the one in this folder or file, or of this hub id."""
    if name in _OFFERED:
        return replace(find(_OFFERED[name]), name=name)
    for model in catalog.models():
        if model.name == name:
            return _spec(name, model.path, configs.of_folder(model.path), model.family)
    path = Path(name).expanduser()
    if os.path.isdir(
        path
    ):  # unlike a path's own method, it takes a name that no file can have for one that is not there
        return _spec(name, path.resolve(), configs.of_folder(path.resolve()))
    if os.path.isfile(path):
        return _spec(name, path.resolve(), single_file.configs(single_file.read(path.resolve())))
    if os.path.exists(path):
        files.check_regular(path, BadModel)  # which tells what else it is
    if hub.is_id(name):
        folder = hub.small_files(name)
        return _spec(name, folder, configs.of_folder(folder), hub_id=name)
    if len(path.parts) > 1 or path.suffix:
        raise BadModel(f"there is no model folder {shortened(name)}, nor a file of this name{nearest_file(path)}")
    raise UnknownChoice("model", name, names(), _OWN_MODEL)


def is_model(path: Path) -> bool:
    """Tell a model, sound or not, from a LoRA: a folder by its configurations, a file by its keys."""
    if path.is_dir():
        return (path / "model_index.json").is_file() or (path / "unet" / "config.json").is_file()
    try:
        return single_file.holds_unet(path)
    except BadFile:
        return False


def describe(spec: ModelSpec) -> dict[str, JsonValue]:
    """Return what there is to say of a model before it is loaded."""
    return {
        "path": str(spec.path),
        "layout": "one file" if spec.path.is_file() else "folder",
        "family": spec.family or "unknown",
        "predicts": spec.configs.prediction,
        "size": [spec.width, spec.height],
        "text_encoders": list(spec.configs.texts),
        "blocks": list(spec.blocks.all),
        "steps": spec.defaults.num_inference_steps,
        "guidance_scale": spec.defaults.guidance_scale,
        "scheduler": spec.defaults.scheduler,
    }


def _spec(name: str, path: Path, found: Configs, family: str | None = None, hub_id: str | None = None) -> ModelSpec:
    configs.check(found, path)
    try:
        context = int(found.unet["cross_attention_dim"])
        factor = found.latent_factor
        size = int(found.unet["sample_size"]) * factor
        capabilities = _capabilities(found.unet)
    except (KeyError, TypeError, ValueError) as error:
        raise BadModel(f"the configuration of {path} lacks what SD1.5's architecture has: {error}") from error
    return ModelSpec(
        name=name,
        path=path,
        family=family or families.BY_WIDTH.get(context),
        width=size,
        height=size,
        latent_factor=factor,
        defaults=_DEFAULTS.get(name, _SDXL_DEFAULTS if found.sdxl else _SD15_DEFAULTS),
        capabilities=capabilities,
        blocks=_blocks(found.unet),
        configs=found,
        hub_id=hub_id,
    )


def _blocks(unet: Mapping[str, Any]) -> UnetBlocks:
    """Return the blocks of a UNet of this configuration."""
    down = unet.get("down_block_types", ())
    up = unet.get("up_block_types") or tuple(reversed(down))
    layers = unet.get("layers_per_block", 2)
    per_level = [layers] * len(down) if isinstance(layers, int) else list(layers)
    return of_unet(["Attn" in kind for kind in down], ["Attn" in kind for kind in up], per_level)


def _capabilities(unet: Mapping[str, Any]) -> frozenset[Capability]:
    """Return what passes may ask of a UNet of this configuration."""
    found: dict[Capability, bool] = {
        "cross-attention": any("CrossAttn" in kind for kind in unet.get("down_block_types", ())),
        "deep features": len(unet["block_out_channels"]) > 1,
    }
    return frozenset(capability for capability, there in found.items() if there)
