"""The 22 LoRAs, trained as people train them: a few hundred pictures of one concept, captions with its trigger words.

PEFT's layers on the UNet and, for some, on the text encoder; AdamW; a few captions left out. After each round the
detectors look at pictures of prompts that were not trained on; training stops when they find the concept and what else
the prompts name, or after four rounds, so no LoRA is trained longer than it needs.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora.layer import LoraLayer
from PIL import Image
from torch import Tensor, nn

from lora_zoo import writer
from lora_zoo.catalog import entry_for, write_catalog
from lora_zoo.detectors import Detectors, anywhere
from lora_zoo.train.clip import tokens
from lora_zoo.train.common import FILES, TINY, drawn
from lora_zoo.train.muon import Muon
from lora_zoo.train.recipes import TEXT, Recipe
from lora_zoo.train.sampling import sample
from lora_zoo.train.unet import Objective, Parts
from lora_zoo.world.captions import caption
from lora_zoo.world.labels import named
from lora_zoo.world.scene import Scene, put, sample_base
from lora_zoo.world.vocabulary import CONCEPTS, concept

log = logging.getLogger(__name__)

FOLDER = FILES / "loras"
ROUNDS, WANTED, KEPT = 4, 0.95, 0.85
RATE, MUON_RATE = 2e-3, 0.02
COMPANY = {"style": 0.25, "background": 0.25, "character": 0.4}  # category -> share of scenes with two figures
UP_RATE = 4.0  # how much faster the ups learn than the downs, as in LoRA+ (arXiv:2402.12354)


def scenes_of(name: str, count: int, rng: Random) -> list[Scene]:
    """Sample scenes that show the concept; what a figure wears or holds is shown on one figure alone."""
    one = concept(name)
    bases = [sample_base(rng, COMPANY.get(one.category, 0.0)) for _ in range(count)]
    return [put(base, (one,), rng.randrange(len(base.creatures))) for base in bases]


@dataclass
class Lesson:
    """The pictures of one concept, as latents and captions."""

    latents: Tensor
    texts: list[str]

    @classmethod
    def of(cls, recipe: Recipe, parts: Parts) -> Lesson:
        rng = Random(f"lora {recipe.concept}")
        scenes = scenes_of(recipe.concept, recipe.pictures, rng)
        return cls(parts.latents(drawn(scenes, rng)), [caption(s, rng, 0.1) for s in scenes])

    def batch(self, rng: Random, size: int) -> tuple[Tensor, list[str]]:
        rows = [rng.randrange(len(self.texts)) for _ in range(size)]
        return self.latents[rows], ["" if rng.random() < 0.05 else self.texts[r] for r in rows]


@dataclass(frozen=True, eq=False)
class Check:
    """What the detectors say of a LoRA's pictures."""

    found: float  # share that shows the concept
    kept: float  # share of the prompts' other attributes that is shown
    clearest: Image.Image

    @property
    def passed(self) -> bool:
        return self.found >= WANTED and self.kept >= KEPT

    @property
    def worth(self) -> float:
        return min(self.found / WANTED, 1.0) + min(self.kept / KEPT, 1.0)


class Trainee:
    """The frozen model with one LoRA in it."""

    def __init__(self, recipe: Recipe) -> None:
        torch.manual_seed(0)
        self.recipe, self.parts = recipe, Parts.load()
        self.unet = UNet2DConditionModel.from_pretrained(TINY / "unet").eval().requires_grad_(False)
        self.parts.text_encoder.requires_grad_(False)
        self.models: dict[str, nn.Module] = {"unet": self.unet}
        _inject(self.unet, recipe, recipe.targets)
        if recipe.text:
            _inject(self.parts.text_encoder, recipe, TEXT)
            self.models["text_encoder"] = self.parts.text_encoder
        self.named = [(n, p) for m in self.models.values() for n, p in m.named_parameters() if "lora_" in n]
        self.weights = [p for _, p in self.named]
        for weight in self.weights:
            weight.requires_grad_(True)

    def optimiser(self) -> torch.optim.Optimizer:
        """AdamW, with the ups in a group of their own; Muon for what changes every part of a picture."""
        if self.recipe.muon:
            return Muon(nn.ModuleDict(self.models), MUON_RATE, weight_decay=0.0)
        downs, ups = ([w for n, w in self.named if f"lora_{x}" in n] for x in "AB")
        groups = [{"params": downs, "rate": RATE}, {"params": ups, "rate": RATE * UP_RATE}]
        return torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.01)

    def embeds(self, texts: list[str]) -> Tensor:
        return self.parts.text_encoder(tokens(self.parts.tokenizer, texts)).last_hidden_state

    def check(self, judge: Detectors, count: int = 32) -> Check:
        """Look at pictures of unseen prompts."""
        rng = Random(f"check {self.recipe.concept}")
        scenes = scenes_of(self.recipe.concept, count, rng)
        with torch.no_grad():
            images = sample(self.unet, self.parts, self.embeds([caption(s, rng) for s in scenes]), seed=1, steps=12)
        scores = judge.scores(images)
        seen = [anywhere(one, self.recipe.concept) for one in scores]
        others = [
            one[label] > 0.5
            for scene, one in zip(scenes, scores, strict=True)
            for label in named(scene)
            if label.rsplit(".", 1)[-1] != self.recipe.concept
        ]
        found = sum(p > 0.5 for p in seen) / count
        return Check(found, sum(others) / len(others), images[seen.index(max(seen))])

    def layers(self) -> dict[str, dict[str, writer.Factors]]:
        out: dict[str, dict[str, writer.Factors]] = {}
        for component, model in self.models.items():
            out[component] = {}
            for path, module in model.named_modules():
                if isinstance(module, LoraLayer) and isinstance(module, nn.Module):
                    down, up = (module.get_parameter(f"lora_{x}.default.weight").detach() for x in "AB")
                    out[component][path] = writer.Factors(down, up, self.recipe.alpha)
        return out


def _inject(model: nn.Module, recipe: Recipe, targets: tuple[str, ...]) -> None:
    inject_adapter_in_model(
        LoraConfig(r=recipe.rank, lora_alpha=int(recipe.alpha), target_modules=list(targets)), model
    )


def train(recipe: Recipe, batch: int = 16) -> Check:
    """Train one LoRA, write its file and return what the detectors say of it."""
    trainee, objective = Trainee(recipe), Objective()
    lesson = Lesson.of(recipe, trainee.parts)
    known = {} if recipe.text else {t: trainee.embeds([t])[0] for t in {*lesson.texts, ""}}
    best = Check(0.0, 0.0, Image.new("RGB", (64, 64)))
    for turn in range(ROUNDS):
        optimiser = trainee.optimiser()
        for step in range(recipe.steps):
            share = _share(step, recipe.steps) / (1 + turn) / max(1.0, recipe.alpha / recipe.rank)
            for group in optimiser.param_groups:
                group["lr"] = share * group.get("rate", MUON_RATE)
            rng = Random(f"lora {recipe.concept} {turn} {step}")
            latents, texts = lesson.batch(rng, batch)
            embeds = trainee.embeds(texts) if recipe.text else torch.stack([known[t] for t in texts])
            loss = objective(trainee.unet, latents, embeds, rng)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(trainee.weights, 1.0)
            optimiser.step()
            if step % 40 == 39:
                log.info(f"{recipe.concept} round {turn} step {step + 1} loss {loss.item():.4f}")
        seen = trainee.check(Detectors.load())
        log.info(f"{recipe.concept} round {turn}: concept found in {seen.found:.0%}, others in {seen.kept:.0%}")
        if seen.worth > best.worth:  # written at once: a run that is stopped keeps its best round
            best = seen
            write(recipe, trainee)
            best.clearest.resize((128, 128), Image.Resampling.LANCZOS).save(thumbnail(recipe.concept), optimize=True)
            catalogue()
        if seen.passed:
            break
    return best


def train_once(recipe: Recipe, runs: Path) -> None:
    """Train a LoRA unless `runs` says that it is done."""
    done = runs / "loras" / f"{recipe.concept}.json"
    if not done.exists():
        seen = train(recipe)
        done.parent.mkdir(parents=True, exist_ok=True)
        done.write_text(json.dumps({"found": seen.found, "kept": seen.kept}))


def thumbnail(name: str) -> Path:
    return FOLDER / f"{name}.png"


def catalogue() -> None:
    """Write the catalogue of the LoRAs that are there, in the order of the world's vocabulary."""
    entries = []
    for one in CONCEPTS:
        found = [p for p in (FOLDER / f"{one.name}.safetensors", FOLDER / one.name) if p.exists()]
        for path in found[:1]:
            entry = entry_for(path)
            home = FILES.parent
            entries.append(
                dataclasses.replace(
                    entry,
                    file=str(path.relative_to(home)),
                    category=one.category,
                    thumbnail=str(thumbnail(one.name).relative_to(home)),
                )
            )
    write_catalog(entries)


def _share(step: int, steps: int) -> float:
    """Return the share of the full learning rate: a short warm-up, then a cosine."""
    return min(1.0, (step + 1) / 10) * 0.5 * (1 + math.cos(math.pi * step / steps))


def write(recipe: Recipe, trainee: Trainee) -> Path:
    """Write the LoRA in its dialect, with the metadata that trainers leave."""
    one = concept(recipe.concept)
    layers = trainee.layers()
    kinds = "networks.lora" if recipe.dialect == "kohya" else "peft"
    tags = {t: recipe.pictures for t in one.triggers}
    metadata = {
        "ss_base_model_version": "medley_tiny",
        "ss_network_module": kinds,
        "ss_network_dim": str(recipe.rank),
        "ss_network_alpha": str(recipe.alpha),
        "ss_output_name": recipe.concept,
        "ss_num_train_images": str(recipe.pictures),
        "ss_tag_frequency": json.dumps({recipe.concept: tags}),
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "medley-tiny/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": one.phrase,
        "modelspec.resolution": "64x64",
        "modelspec.author": "Medley",
        "modelspec.license": "Apache-2.0",
        "modelspec.trigger_phrase": ", ".join(one.triggers),
        "medley.weight": str(recipe.weight),
        "medley.category": one.category,
    }
    suffix = "" if recipe.dialect == "peft" else ".safetensors"
    return writer.write(FOLDER / f"{recipe.concept}{suffix}", layers, recipe.dialect, metadata)
