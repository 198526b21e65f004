"""Models by hub id, through the cache that huggingface_hub keeps: what is there is used, the rest is fetched.

A model's small files are enough to resolve and price a request; its weights are fetched when it is loaded.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from pipelines.errors import BadModel

log = logging.getLogger(__name__)

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]*[A-Za-z0-9]")
_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
_HEAVY = ("text_encoder", "text_encoder_2", "unet", "vae")
_PARTS = ("tokenizer", "tokenizer_2", "scheduler", *_HEAVY)
_SMALL = ["model_index.json", *(f"{part}/*.{kind}" for part in _PARTS for kind in ("json", "txt"))]
_WEIGHTS = [f"{part}/*.safetensors" for part in _HEAVY]
_HALF = "*.fp16.*"
_NEVER = ["*non_ema*", "*.flax*"]


def is_id(name: str) -> bool:
    """Whether a name may be a hub id: an owner and a model, no path of a file."""
    return _ID.fullmatch(name) is not None and not name.endswith(_SUFFIXES)


def small_files(name: str) -> Path:
    """Return the cached folder of a model, with at least its configurations and tokenizers in it."""
    cached = _cached(name)
    return cached if cached and (cached / "model_index.json").is_file() else _fetched(name, _SMALL, [])


def weights(name: str) -> Path:
    """Return the cached folder of a model with its weights in it, in half precision if there are no others."""
    folder = small_files(name)
    if not _has_weights(folder):
        folder = _fetched(name, _SMALL + _WEIGHTS, [*_NEVER, _HALF])
    return folder if _has_weights(folder) else _fetched(name, _SMALL + _WEIGHTS, _NEVER)


def _has_weights(folder: Path) -> bool:
    heavy = [part for part in _HEAVY if (folder / part).is_dir()]
    return all(any((folder / part).glob("*.safetensors")) for part in heavy)


def _cached(name: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True, allow_patterns=_SMALL))
    except LocalEntryNotFoundError:
        return None


def _fetched(name: str, allowed: list[str], ignored: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE

    log.info("fetching model %s from the hub", name)
    try:
        return Path(snapshot_download(name, allow_patterns=allowed, ignore_patterns=ignored))
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise BadModel(
            f"there is no model folder {name}, and the hub model of this name is not (or not whole) in the cache, "
            f"{HF_HUB_CACHE}, and cannot be fetched now: {first}. Where there is a network, run "
            f"'hf download {name}' and copy the cache; or give a folder or a .safetensors file"
        ) from error
