"""DINO's view of pictures (arXiv:2104.14294, arXiv:2304.07193), by any model that timm knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from composer.errors import UnknownChoice
from eval import viewers
from eval.errors import BadMetric

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_CHUNK = 32  # pictures looked at together


@dataclass(frozen=True, eq=False)
class Dino:
    """A model without a head: pictures in, one vector of features each."""

    model: nn.Module
    preprocess: Callable[[Image], Tensor]

    @classmethod
    def named(cls, name: str) -> Dino:
        """Load MODEL as timm names it, its weights from timm's cache (fetched if not there), or from MODEL:FILE.

        Raises:
            UnknownChoice: timm knows no such model.
            BadMetric: timm is not installed, or the weights cannot be found, fetched or read.
        """
        check(name)
        timm: Any = import_module("timm")
        model, _, file = name.partition(":")
        with viewers.loading(f"DINO {name}"):
            made: nn.Module = timm.create_model(model, pretrained=not file, num_classes=0)
            if file:
                _fill(made, Path(file))
            seen: Any = timm.data.create_transform(**timm.data.resolve_model_data_config(made), is_training=False)
        return cls(made.eval(), lambda image: seen(image.convert("RGB")))

    @torch.no_grad()
    def images(self, images: Sequence[Image]) -> Tensor:
        """Return the view of each picture, of length one, [images, width]."""
        parts = [images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK)]
        seen = [self.model(torch.stack([self.preprocess(one) for one in some])) for some in parts]
        return F.normalize(torch.cat(seen), dim=1)


def check(name: str) -> str | None:
    """Find out whether a DINO can be used, without loading it; return a notice if its weights are to be fetched first.

    Raises:
        UnknownChoice: timm knows no such model.
        BadMetric: timm is not installed; a file that is none of weights; weights that must not be fetched, or are none.
    """
    if find_spec("timm") is None:
        raise BadMetric("DINO needs timm; install requirements-judge.txt")
    timm: Any = import_module("timm")
    model, colon, file = name.partition(":")
    known = [*timm.list_models(pretrained=True), *timm.list_models()]
    if model not in known:
        raise UnknownChoice("DINO", model, known)
    if colon:
        if Path(file).suffix != ".safetensors" or not Path(file).is_file():
            raise BadMetric(f"DINO's weights must be a safetensors file, not {file!r}")
        return None
    config = timm.get_pretrained_cfg(model)
    if config is None or not timm.is_model_pretrained(model):
        raise BadMetric(f"DINO {model}: timm has no weights of it; name a file of them, {model}:FILE.safetensors")
    here = bool(config.hf_hub_id) and viewers.cached(config.hf_hub_id, _WEIGHTS)
    here = here or (Path(torch.hub.get_dir()) / "checkpoints" / str(config.url).rsplit("/", 1)[-1]).is_file()
    return None if here else viewers.absent(f"DINO {name}")


def _fill(model: nn.Module, path: Path) -> None:
    """Put a file's weights into a model; a file with others is an error."""
    try:
        model.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise BadMetric(f"{path} does not hold the weights of this DINO: {str(error).splitlines()[0]}") from error
