"""Where a LoRA's bytes lie: one file, a PEFT folder, or a folder of PEFT folders, one for each part of a model."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from lora_zoo.errors import BadFile, first_few, nearest_file
from lora_zoo.foreign import files

PEFT_WEIGHTS = "adapter_model.safetensors"
PEFT_CONFIG = "adapter_config.json"

#: Sub-folders of a PEFT folder that hold a whole model's adapter; each is named as its component.
COMPONENTS = ("unet", "text_encoder", "text_encoder_2")


@dataclass(frozen=True)
class Part:
    """A file of weights, and for PEFT the configuration beside it."""

    weights: Path
    config: Path | None
    component: str | None = None  # what the folder's name says; None: the keys must say it


@dataclass(frozen=True)
class Source:
    """The files that make one LoRA."""

    path: Path
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """Return what people call it: the folder's name for PEFT, whose files are all named alike."""
        first = self.parts[0].weights
        if first.name != PEFT_WEIGHTS:
            return first.stem
        return self.path.resolve().name if self.path.is_dir() else first.resolve().parent.name

    @property
    def weights(self) -> Path:
        """Return the one file of weights, which a folder for several components has not."""
        first, *others = self.parts
        if others:
            raise BadFile(f"{self.path}: several files of weights, {first_few(str(p.weights) for p in self.parts)}")
        return first.weights

    def digest(self) -> str:
        """Return the sha256 of the file. A PEFT config counts too: it holds the alphas, hence the strength."""
        total = hashlib.sha256()
        for part in self.parts:
            total.update((part.component or "").encode())
            for path in filter(None, (part.weights, part.config)):
                with files.opened(path) as file:
                    for block in files.blocks(file, path):
                        total.update(block)
        return total.hexdigest()


def locate(path: Path) -> Source:
    """Find the weights at a path: a safetensors file, a PEFT folder, or one with a PEFT folder per component."""
    if os.path.isdir(path):  # pathlib's own tests raise for names that no file can have
        below = [name for name in COMPONENTS if (path / name / PEFT_WEIGHTS).is_file()]
        if below and not (path / PEFT_WEIGHTS).exists():
            return Source(path, tuple(_folder(path / name, name) for name in below))
        return Source(path, (_folder(path, None),))
    if not os.path.isfile(path):
        if os.path.exists(path):
            files.check_regular(path)  # which tells what else it is
        raise BadFile(f"{path}: no such file{nearest_file(path)}")
    config = path.with_name(PEFT_CONFIG)
    return Source(path, (Part(path, config if path.name == PEFT_WEIGHTS and config.is_file() else None),))


def _folder(path: Path, component: str | None) -> Part:
    weights, config = path / PEFT_WEIGHTS, path / PEFT_CONFIG
    missing = [file.name for file in (weights, config) if not file.is_file()]
    if missing:
        raise BadFile(f"{path}: not a PEFT folder, {' and '.join(missing)} missing")
    return Part(weights, config, component)
