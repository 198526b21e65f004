"""Measures LoRAs' frequency profiles on pictures of their own, once for each file's content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from composer import spectrum
from composer.request import AdapterUse, RenderRequest
from lora_zoo.catalog import Entry
from lora_zoo.library import Library
from lora_zoo.profiles import Profile
from pipelines.engine import Engine

OnLora = Callable[[int, int], None]  # LoRAs measured so far, LoRAs to measure


@dataclass(frozen=True)
class Measured:
    """One LoRA's profile, and what follows from it."""

    name: str
    frequency: float
    profile: Profile


def measure(engine: Engine, library: Library, names: Sequence[str], asked: Asked, on_lora: OnLora) -> list[Measured]:
    """Measure LoRAs and keep what is found; those that are known already are not measured again unless asked to."""
    found: list[Measured] = []
    for done, name in enumerate(names):
        on_lora(done, len(names))
        entry = library.find(name)
        known = None if asked.again else library.profile(entry)
        if known is None:
            known = _profile(engine, name, entry, asked)
            library.keep_profile(entry, known)
        found.append(Measured(entry.name, spectrum.frequency(known), known))
    return found


@dataclass(frozen=True)
class Asked:
    """On what to measure: pictures of the LoRA's trigger words by a model, at its default settings."""

    model: str
    pictures: int
    again: bool


def _profile(engine: Engine, name: str, entry: Entry, asked: Asked) -> Profile:
    requests = [
        RenderRequest(
            model=asked.model,
            prompt=", ".join(entry.triggers),
            adapters=(AdapterUse(name=name),),
            seed=seed,
            prompt_syntax="plain",
        )
        for seed in range(asked.pictures)
    ]
    pictures = [one.image.convert("RGB") for one in engine.render_many(requests)]
    return spectrum.profile([torch.from_numpy(np.array(one, np.float32)).mean(2) for one in pictures])
