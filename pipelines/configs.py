"""What the small JSON files of a model say of its parts, and which models are refused for what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from lora_zoo.foreign import documents, files
from pipelines import config_fields
from pipelines.config_fields import Field
from pipelines.errors import BadModel

_PARTS = ("tokenizer", "text_encoder", "unet", "vae", "scheduler")
_PARTS_OF_SDXL = ("tokenizer_2", "text_encoder_2")
_PREDICTIONS = ("epsilon", "v_prediction")
_MOST_BYTES = 1 << 20
_BOUNDS = documents.Bounds(length=_MOST_BYTES, depth=8)
_MOST_BLOCKS = 1000  # of a UNet; SDXL has some seventy


@dataclass(frozen=True)
class Configs:
    """A model's configurations, as diffusers and transformers write them."""

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    scheduler: Mapping[str, Any]
    texts: Mapping[str, Mapping[str, Any]]  # component -> its own; SDXL has two
    zero_empty: bool  # an empty negative prompt is nothing at all, rather than a text without words

    @property
    def sdxl(self) -> bool:
        """Whether the UNet is told a pooled text and sizes, besides the text's tokens."""
        return len(self.texts) > 1

    @property
    def prediction(self) -> str:
        return str(self.scheduler.get("prediction_type", "epsilon"))

    @property
    def latent_channels(self) -> int:
        return int(self.vae.get("latent_channels", 4))

    @property
    def latent_factor(self) -> int:
        """Return how many pixels a latent pixel is wide."""
        return 2 ** (len(self.vae.get("block_out_channels") or self.vae["decoder_block_out_channels"]) - 1)


def of_folder(folder: Path) -> Configs:
    """Read the configurations of a folder in diffusers' layout."""
    index = read_json(folder / "model_index.json") if (folder / "model_index.json").exists() else {}
    kind = str(index.get("_class_name", ""))
    if kind and not kind.startswith(("StableDiffusionPipeline", "StableDiffusionXLPipeline")):
        raise BadModel(f"{folder} is made for diffusers' {kind}; only SD1.5, SD2 and SDXL, text to image, are read")
    sdxl = (folder / "text_encoder_2").is_dir() or kind.startswith("StableDiffusionXL")
    wanted = _PARTS + _PARTS_OF_SDXL if sdxl else _PARTS
    missing = [part for part in wanted if not (folder / part).is_dir()]
    if missing:
        what = "SDXL's" if sdxl else "SD1.5's"
        raise BadModel(f"{folder} is not a diffusers folder of {what} architecture; it lacks {', '.join(missing)}")
    return Configs(
        unet=_fields(folder / "unet" / "config.json", config_fields.UNET),
        vae=_fields(folder / "vae" / "config.json", config_fields.VAE),
        scheduler=_fields(folder / "scheduler" / "scheduler_config.json", config_fields.SCHEDULER),
        texts={part: _text(folder / part / "config.json") for part in wanted if part.startswith("text_encoder")},
        zero_empty=bool(index.get("force_zeros_for_empty_prompt", sdxl)),
    )


def check(configs: Configs, where: Path) -> None:
    """Refuse a model whose configurations ask for what is not done here."""
    unet, scheduler = configs.unet, str(configs.scheduler.get("_class_name", ""))
    if unet.get("in_channels", 4) != configs.latent_channels:
        raise BadModel(
            f"{where}: the UNet reads {unet['in_channels']} channels and latents have {configs.latent_channels}: "
            "a model for inpainting or editing, which needs a picture to begin with"
        )
    added = "text_time" if configs.sdxl else None
    if unet.get("addition_embed_type") != added or unet.get("class_embed_type") is not None:
        raise BadModel(f"{where}: the UNet wants conditions beyond those of SD1.5 and SDXL")
    if unet.get("encoder_hid_dim_type") is not None:
        raise BadModel(f"{where}: the UNet reads more than texts ({str(unet['encoder_hid_dim_type'])[:80]})")
    _check_blocks(unet, where)
    if unet.get("time_cond_proj_dim") is not None:
        raise BadModel(f"{where}: a UNet distilled to be told its guidance (LCM); use its LoRA with the base model")
    if scheduler.startswith(("EDM", "FlowMatch")) or configs.vae.get("latents_mean") is not None:
        raise BadModel(f"{where}: its noise schedule ({scheduler}) is not the one of SD1.5 and SDXL")
    if configs.prediction not in _PREDICTIONS:
        raise BadModel(f"{where}: it predicts {configs.prediction!r}; {' and '.join(_PREDICTIONS)} are read")


def read_json(path: Path) -> dict[str, Any]:
    """Read a configuration file; what is none is an error that names it."""
    found = documents.json_value(
        files.read(path, _MOST_BYTES, path.parent, BadModel), str(path), _BOUNDS, error=BadModel
    )
    if not isinstance(found, dict):
        raise BadModel(f"{path} is not a configuration")
    return cast(dict[str, Any], found)


def _fields(path: Path, known: Mapping[str, Field]) -> dict[str, Any]:
    return config_fields.check(read_json(path), known, str(path))


def _text(path: Path) -> dict[str, Any]:
    return config_fields.text_encoder(read_json(path), str(path))


def _check_blocks(unet: Mapping[str, Any], where: Path) -> None:
    """Refuse a UNet whose lists do not go together, or of more blocks than any has."""
    down, up = unet.get("down_block_types"), unet.get("up_block_types")
    widths = unet.get("block_out_channels")
    sizes = {len(found) for found in (down, up, widths) if isinstance(found, list)}
    if len(sizes) > 1:
        raise BadModel(f"{where}: the UNet states {' and '.join(map(str, sorted(sizes)))} levels at once")
    layers, depths = _greatest(unet.get("layers_per_block", 2)), _greatest(unet.get("transformer_layers_per_block", 1))
    if layers * depths * max(sizes, default=1) > _MOST_BLOCKS:
        raise BadModel(f"{where}: the UNet states {layers} layers of {depths} blocks each, more than any has")


def _greatest(stated: Any) -> int:
    if isinstance(stated, list):
        return max(map(_greatest, cast(list[Any], stated)), default=0)
    return 1 if stated is None else int(stated)
