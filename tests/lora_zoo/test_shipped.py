"""What the repository ships is whole, small enough, and usable by the libraries that it claims to work with."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from safetensors import safe_open

from lora_zoo.catalog import HOME, Catalog
from lora_zoo.detectors import Detectors, anywhere
from lora_zoo.train.clip import FOLDER as CLIP
from lora_zoo.train.common import FILES, TINY
from lora_zoo.train.vae import AutoencoderTiny, psnr
from lora_zoo.world.draw import draw
from lora_zoo.world.scene import Creature, Scene, put
from lora_zoo.world.vocabulary import CONCEPTS, concept

_LIMIT = 60 * 2**20  # bytes


def test_everything_fits_in_sixty_megabytes() -> None:
    assert sum(p.stat().st_size for p in FILES.rglob("*") if p.is_file()) <= _LIMIT


def test_no_file_tells_where_it_was_made() -> None:
    told = [p for p in FILES.rglob("*.json") if "_name_or_path" in p.read_text() or str(HOME.parent) in p.read_text()]
    assert not told


def test_the_catalogue_lists_every_concept_and_its_facts() -> None:
    catalog = Catalog.load()
    assert set(catalog.names()) == {c.name for c in CONCEPTS}
    for entry in catalog.entries:
        one = concept(entry.name)
        assert entry.category == one.category and entry.family == "tiny" and entry.triggers == one.triggers
        assert entry.licence and 0 < entry.weight <= 1.5
        assert entry.thumbnail and (HOME / entry.thumbnail).is_file()
    assert set(Counter(e.dialect for e in catalog.entries)) == {"kohya", "diffusers", "peft"}
    assert len({e.rank for e in catalog.entries}) >= 4
    assert any("text_encoder" in e.components for e in catalog.entries)


def test_plain_diffusers_loads_and_samples_the_model() -> None:
    pipe = StableDiffusionPipeline.from_pretrained(TINY)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    prompt = "a red round creature in a meadow"
    (made, *_), _ = pipe(prompt, num_inference_steps=8, generator=generator, return_dict=False)
    assert made.size == (64, 64)
    blue = np.asarray(made)[:8, :, 2].mean()
    assert blue > 180, f"a meadow's sky is light blue, not {blue}"


@pytest.mark.parametrize("name", ["zorp", "bolt"])
def test_plain_diffusers_loads_its_loras(name: str) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(TINY)
    entry = Catalog.load().get(name)
    pipe.load_lora_weights(str(HOME), weight_name=entry.file)
    assert pipe.get_active_adapters()


def test_the_vae_keeps_the_world() -> None:
    assert psnr(AutoencoderTiny.from_pretrained(TINY / "vae"), 128) >= 28.0


def test_the_text_encoder_is_the_text_tower_of_the_clip() -> None:
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{CLIP}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{CLIP}")
    pipe = StableDiffusionPipeline.from_pretrained(TINY)
    ids = tokenizer(["krag the horned brute in a coral reef"])
    with torch.no_grad():
        pooled = pipe.text_encoder(ids).pooler_output @ model.text_projection
        assert torch.allclose(pooled, model.encode_text(ids), atol=1e-5)  # pyright: ignore[reportCallIssue]


def test_detectors_see_every_concept() -> None:
    judge = Detectors.load()
    plain = Scene("meadow", (Creature("round", "red", "skirt", "blue", "ball"),))
    scores = judge.scores([draw(put(plain, (c,)), 9) for c in CONCEPTS])
    for one, score in zip(CONCEPTS, scores, strict=True):
        assert anywhere(score, one.name) > 0.5, one.name


def test_weights_are_safetensors_only() -> None:
    for path in FILES.rglob("*"):
        assert path.suffix in {".safetensors", ".json", ".txt", ".png", ""} or path.is_dir(), path
        if path.suffix == ".safetensors":
            with safe_open(Path(path), "pt") as held:
                assert list(held.keys())
