"""How well the small CLIP knows the world: the right caption among a hundred, by open_clip's ordinary API."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, cast

import open_clip
import torch
from PIL.Image import Image
from torch import Tensor

from composer.errors import UnknownChoice
from eval import outputs, viewers
from eval.bench import Advance, Bars
from eval.errors import BadMetric
from lora_zoo import catalog
from lora_zoo.world.captions import caption
from lora_zoo.world.draw import draw
from lora_zoo.world.scene import sample_any

FOLDER = catalog.HOME / "files" / "clip"
_HUB = "hf-hub:"
_CONFIG = "open_clip_config.json"
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
_AMONG = 100
_CHUNK = 64  # pictures looked at together


@dataclass(frozen=True, eq=False)
class Clip:
    """A CLIP as open_clip loads it."""

    model: open_clip.CLIP
    preprocess: Callable[[Image], Tensor]
    tokenize: Callable[[list[str]], Tensor]

    @classmethod
    def load(cls, folder: Path = FOLDER) -> Clip:
        """Load a folder in open_clip's format."""
        return cls._open(f"local-dir:{folder}", None)

    @classmethod
    def named(cls, name: str | None) -> Clip:
        """Load a folder, or MODEL:WEIGHTS as open_clip lists them (fetched if not there); None: the embedded.

        Raises:
            UnknownChoice: open_clip lists no such model, or no such weights of it.
            BadMetric: The weights cannot be found, fetched or read.
        """
        if name in (None, viewers.EMBEDDED):
            return cls.load()
        check(name)
        with viewers.loading(f"CLIP {name}"):
            if Path(name).is_dir():
                return cls.load(Path(name))
            if name.startswith(_HUB):
                return cls._open(name, None)
            model, _, weights = name.partition(":")
            return cls._open(model, weights)

    @classmethod
    def _open(cls, name: str, weights: str | None) -> Clip:
        known = open_clip.get_pretrained_cfg(name, weights) if weights else {}
        model, _, preprocess = open_clip.create_model_and_transforms(
            name,
            pretrained=weights,
            # taken from the weights, for which open_clip only warns: with another activation all scores are wrong
            force_quick_gelu=bool(known.get("quick_gelu")),
        )
        tokenize = cast(Callable[[list[str]], Tensor], open_clip.get_tokenizer(name))
        return cls(cast(open_clip.CLIP, model).eval(), cast(Callable[[Image], Tensor], preprocess), tokenize)

    def similarities(self, images: list[Image], texts: list[str]) -> Tensor:
        """Return cosines [images, texts]."""
        return self.images(images) @ self.texts(texts).T

    @torch.no_grad()
    def images(self, images: Sequence[Image]) -> Tensor:
        """Return the view of each picture, of length one, [images, width]."""
        return torch.cat([self._some(images[start : start + _CHUNK]) for start in range(0, len(images), _CHUNK)])

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Return the reading of each text, of length one, [texts, width]."""
        return self.model.encode_text(self.tokenize(list(texts)), normalize=True)

    def _some(self, images: Sequence[Image]) -> Tensor:
        stacked = torch.stack([self.preprocess(image) for image in images])
        return self.model.encode_image(stacked, normalize=True)


def check(name: str | None) -> str | None:
    """Find out whether a CLIP can be used, without loading it; return a notice if its weights are to be fetched first.

    Raises:
        UnknownChoice: open_clip lists no such model, or no such weights of it.
        BadMetric: A folder without a CLIP; weights that are not here and must not be fetched.
    """
    if name in (None, viewers.EMBEDDED):
        return None
    if (folder := Path(name)).is_dir():
        lacking = [one for one in (_CONFIG, "*.safetensors") if not any(folder.glob(one))]
        if lacking:
            raise BadMetric(f"{name} is no CLIP in open_clip's format: it holds no {' and no '.join(lacking)}")
        return None
    if name.startswith(_HUB):
        here = viewers.cached(name.removeprefix(_HUB), _WEIGHTS)
    else:
        model, _, weights = name.partition(":")
        if model not in open_clip.list_models():
            raise UnknownChoice("CLIP", model, (*open_clip.list_models(), viewers.EMBEDDED))
        known = open_clip.list_pretrained_tags_by_model(model)
        if weights not in known:
            raise UnknownChoice(f"weights of CLIP {model}", weights, known)
        here = _here(open_clip.get_pretrained_cfg(model, weights))
    return None if here else viewers.absent(f"CLIP {name}")


def _here(weights: Mapping[str, Any]) -> bool:
    """Tell whether the weights that open_clip describes so are on this machine."""
    if place := weights.get("hf_hub"):
        repository, _, file = place.rpartition("/")
        return viewers.cached(repository, (file, f"{file.rsplit('.', 1)[0]}.safetensors") if file else _WEIGHTS)
    return (Path("~/.cache/clip").expanduser() / str(weights.get("url", "")).rsplit("/", 1)[-1]).is_file()


@dataclass(frozen=True)
class Group:
    """Top-1 among one group of pictures and their captions."""

    group: int
    caption_of_picture: float
    picture_of_caption: float


@dataclass(frozen=True)
class Summary:
    """Means over the groups."""

    among: int
    groups: int
    caption_of_picture: float
    picture_of_caption: float


def run(out: Path, bar: Bars, groups: int) -> Summary:
    """Measure retrieval on fresh ground-truth pictures and write what was found."""
    clip = Clip.load()
    with bar("clip", groups) as advance:
        rows = [_told(advance, partial(_group, clip, index)) for index in range(groups)]
    found = [sum(getattr(row, side) for row in rows) / groups for side in ("caption_of_picture", "picture_of_caption")]
    summary = Summary(_AMONG, groups, *found)
    outputs.write_rows(rows, out / "clip.jsonl")
    outputs.write_summary(summary, out / "clip.json")
    return summary


def _told(advance: Advance, work: Callable[[], Group]) -> Group:
    done = work()
    advance(1)
    return done


def _group(clip: Clip, index: int) -> Group:
    rng = Random(f"clip judged {index}")
    scenes = [sample_any(rng) for _ in range(_AMONG)]
    texts = [caption(scene, rng) for scene in scenes]
    cosines = clip.similarities([draw(scene, rng.getrandbits(31)) for scene in scenes], texts)
    return Group(index, _top1(cosines), _top1(cosines.T))


def _top1(cosines: Tensor) -> float:
    return float((cosines.argmax(1) == torch.arange(len(cosines))).float().mean())
