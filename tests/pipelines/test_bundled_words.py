"""Textual inversions that LoRA files bundle: against diffusers' `load_textual_inversion`, in prompts of any grammar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from composer.errors import BadRequest
from composer.request import AdapterUse
from lora_zoo import formats
from pipelines.engine import Engine
from pipelines.merges import MergeOrder, check, make
from pipelines.model import LoadedModel
from pipelines.progress import unwatched
from pipelines.sources import ZooSource
from pipelines.text import NO_WORDS, Vocabulary, vocabulary
from tests.adapters import Kind, random_adapter, save_kohya
from tests.requests import ask, close, final_latents

WORD = "glow-cat"


def vectors(width: int, count: int = 3, seed: int = 5) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * 0.3


@pytest.fixture(scope="module")
def file(sd15: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA that brings a word of three vectors along, as trainers write it."""
    path = tmp_path_factory.mktemp("words") / "ink.safetensors"
    save_kohya(random_adapter("ink", sd15.layout, Kind(2, 1.0), 9), path, 1.0)
    save_file({**load_file(path), f"bundle_emb.{WORD}.string_to_param.*": vectors(32)}, path)
    return path


@pytest.fixture(scope="module")
def engine(sd15: LoadedModel) -> Engine:
    return Engine(ZooSource(), load=lambda spec: sd15)


def test_the_word_is_read_as_diffusers_reads_it(
    file: Path, engine: Engine, sd15_folder: Path, sd15: LoadedModel, tmp_path: Path
) -> None:
    pipe: Any = StableDiffusionPipeline.from_pretrained(str(sd15_folder), safety_checker=None)
    pipe.load_textual_inversion({"emb_params": vectors(32)}, token=WORD)
    words = Vocabulary({WORD: {"text_encoder": vectors(32)}})
    for prompt in (f"a {WORD} on a mat", f"{WORD}, {WORD}", "a cat on a mat"):
        wanted, _ = pipe.encode_prompt(prompt, torch.device("cpu"), 1, False)
        with torch.no_grad():
            found = sd15.encode(prompt, (), words)
        torch.testing.assert_close(found.embeds, wanted, atol=1e-5, rtol=1e-5)
    assert sd15.words(sd15.tokens(f"a {WORD} on", words), words) == f"a {WORD} on"
    assert sd15.tokens("a cat", words) == sd15.tokens("a cat")


def test_a_picture_reads_the_word_only_if_its_lora_is_named(file: Path, engine: Engine, sd15_folder: Path) -> None:
    uses = (AdapterUse(name=str(file), weight=0.0),)
    plain = ask(str(sd15_folder), prompt=f"a {WORD.upper()}, on a mat", adapters=uses)
    (found,) = final_latents(engine, [plain])
    (without,) = final_latents(engine, [plain.model_copy(update={"adapters": ()})])
    assert not close(found, without)
    (twice,) = final_latents(engine, [plain.model_copy(update={"prompt_syntax": "plain"})])
    assert close(found, twice)
    (negative,) = final_latents(engine, [plain.model_copy(update={"negative_prompt": WORD})])
    assert not close(found, negative)
    (heavier,) = final_latents(engine, [plain.model_copy(update={"prompt": f"a ({WORD}:1.4), on a mat"})])
    assert not close(found, heavier)


def test_nothing_of_a_word_stays_in_the_model(file: Path, engine: Engine, sd15: LoadedModel, sd15_folder: Path) -> None:
    before = sd15.parameter_digest()
    engine.render(ask(str(sd15_folder), prompt=WORD, adapters=(AdapterUse(name=str(file)),)))
    assert sd15.parameter_digest() == before
    assert "forward" not in vars(sd15.text_encoder.get_input_embeddings())  # type: ignore[operator]


def test_descriptions_count_layers_not_words(file: Path, sd15: LoadedModel) -> None:
    info = formats.describe(file)
    assert (info.kind, info.components) == ("lora", ("unet",))
    adapter = formats.read(file, sd15.layout)
    assert torch.equal(adapter.words[WORD]["text_encoder"], vectors(32))


def test_two_encoders_have_a_part_each(xl: LoadedModel, tmp_path: Path) -> None:
    widths = {"clip_l": 64, "clip_g": 128}
    kept = save_kohya(random_adapter("ink", xl.layout, Kind(2, 1.0), 9), tmp_path / "a.safetensors", 1.0)
    tensors = {**load_file(kept), **{f"bundle_emb.{WORD}.{part}": vectors(width) for part, width in widths.items()}}
    save_file(tensors, kept)
    words = vocabulary({"a": formats.read(kept, xl.layout).words})
    with torch.no_grad():
        own = xl.encode("a cat", ())
        found = xl.encode(WORD, (), words)
    assert found.embeds.shape == own.embeds.shape
    assert found.count == 3
    assert not torch.allclose(found.embeds, own.embeds)


def test_two_loras_with_one_word_are_an_error() -> None:
    one = {"glow": {"text_encoder": torch.ones(1, 4)}}
    with pytest.raises(BadRequest, match="'a' and 'b' both bring a word 'Glow'"):
        vocabulary({"a": one, "b": {"Glow": one["glow"]}})
    assert vocabulary({"a": {}}) is NO_WORDS


def test_a_merge_would_lose_the_word(file: Path, engine: Engine, sd15_folder: Path) -> None:
    request = ask(str(sd15_folder), method="cat", adapters=(AdapterUse(name=str(file)),))
    with pytest.raises(BadRequest, match="brings words along"):
        make(engine, check(engine, MergeOrder(request)), unwatched)
