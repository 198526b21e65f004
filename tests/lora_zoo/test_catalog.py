"""The catalogue: names, paths, what a file says about itself, and a file that is not the one promised."""

import dataclasses
import json
import random
from pathlib import Path

import pytest
import torch

from lora_zoo import formats
from lora_zoo.catalog import Catalog, Entry, entry_for, models, write_catalog
from lora_zoo.errors import BadFile, UnknownName
from lora_zoo.sources import locate
from tests.lora_zoo.files import DIALECTS, LAYOUT, make, write

STATED = {
    "modelspec.architecture": "stable-diffusion-v1/lora",
    "modelspec.title": "A striped vest",
    "modelspec.license": "Apache-2.0",
    "modelspec.trigger_phrase": "striped vest, vst",
    "modelspec.thumbnail": "data:image/png;base64,AA==",
    "medley.weight": "0.8",
}


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """Return a catalogue of two files, read back from disk."""
    entries: list[Entry] = []
    for seed, name in enumerate(("vest", "two_suns")):
        path = write(tmp_path / f"{name}.safetensors", make(DIALECTS["kohya"], seed).tensors, STATED)
        entries.append(dataclasses.replace(entry_for(path), file=path.name, category="garment"))
    write_catalog(entries, tmp_path / "catalog.json")
    return Catalog.load(tmp_path / "catalog.json")


def test_an_entry_states_what_its_file_says(catalog: Catalog, tmp_path: Path) -> None:
    entry = catalog.get("vest")
    assert entry == Entry(
        name="vest",
        file="vest.safetensors",
        sha256=formats.describe(tmp_path / "vest.safetensors").sha256,
        category="garment",
        family="sd15",
        triggers=("striped vest", "vst"),
        weight=0.8,
        rank=3,
        alpha=9.5,
        dialect="kohya",
        components=("unet", "text_encoder"),
        licence="Apache-2.0",
        title="A striped vest",
        thumbnail=None,
    )
    assert catalog.names() == ("vest", "two_suns")
    assert catalog.path(entry) == tmp_path / "vest.safetensors"
    assert catalog.thumbnail(entry) is None
    assert catalog.thumbnail(dataclasses.replace(entry, thumbnail="vest.png")) == tmp_path / "vest.png"


def test_names_and_paths_resolve(catalog: Catalog, tmp_path: Path) -> None:
    assert catalog.resolve("vest") == catalog.get("vest")
    outside = write(tmp_path / "other.safetensors", make(DIALECTS["kohya"], 5).tensors)
    for given in (outside, str(outside)):
        entry = catalog.resolve(given)
        assert (entry.name, entry.category, entry.weight) == ("other", "", 1.0)
        assert catalog.read(entry, LAYOUT).digest == entry.sha256
    with pytest.raises(UnknownName, match=r"unknown LoRA 'vets'; did you mean 'vest'\?"):
        catalog.resolve("vets")
    with pytest.raises(BadFile, match="no such file"):
        catalog.resolve("vets.safetensors")


def test_a_file_other_than_the_promised_one_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    entry = catalog.get("vest")
    assert catalog.read(entry, LAYOUT).name == "vest"
    write(tmp_path / "vest.safetensors", make(DIALECTS["kohya"], 9).tensors)
    with pytest.raises(BadFile, match="sha256"):
        catalog.read(entry, LAYOUT)


@pytest.mark.thorough
def test_10000_flipped_bits_are_noticed(catalog: Catalog, tmp_path: Path) -> None:
    path, entry, rng = tmp_path / "vest.safetensors", catalog.get("vest"), random.Random(7)
    sound = path.read_bytes()
    for _ in range(10_000):
        flipped = bytearray(sound)
        flipped[rng.randrange(len(sound))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        assert locate(path).digest() != entry.sha256
    for _ in range(200):
        flipped = bytearray(sound)
        flipped[rng.randrange(len(sound))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(BadFile):
            catalog.read(entry, LAYOUT)


def test_no_file_is_an_empty_catalogue(tmp_path: Path) -> None:
    empty = Catalog.load(tmp_path / "catalog.json")
    assert empty.names() == ()
    with pytest.raises(UnknownName, match="none is known"):
        empty.get("vest")


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"weight": "heavy"}, "weight: expected a finite number"),
        ({"triggers": "vest"}, "triggers: expected a list"),
        ({"rank": -1}, "whole number"),
        ({"colour": "red"}, "unknown fields: colour"),
        ({"name": "two_suns"}, "several LoRAs are named two_suns"),
    ],
)
def test_a_bad_catalogue_is_refused(change: dict[str, object], wanted: str, catalog: Catalog) -> None:
    path = catalog.folder / "catalog.json"
    stated = json.loads(path.read_text())
    stated["loras"][0] |= change
    path.write_text(json.dumps(stated))
    with pytest.raises(BadFile, match=wanted):
        Catalog.load(path)


def test_writing_is_whole_or_not_at_all(catalog: Catalog) -> None:
    path = catalog.folder / "catalog.json"
    before = path.read_text()
    with pytest.raises(BadFile, match="several"):
        write_catalog([catalog.entries[0]] * 2, path)
    unwritable = dataclasses.replace(catalog.entries[0], title=b"not JSON")  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError):
        write_catalog([unwritable], path)
    assert path.read_text() == before
    write_catalog(catalog.entries[:1], path)
    assert Catalog.load(path).names() == ("vest",)
    assert [p.name for p in catalog.folder.iterdir() if p.suffix == ".part"] == []


@pytest.mark.parametrize(
    ("width", "stated", "family"),
    [
        (96, {}, "tiny"),
        (768, {}, "sd15"),
        (1024, {}, "sd2"),
        (2048, {}, "sdxl"),
        (500, {}, "unknown"),
        (768, {"ss_base_model_version": "sdxl_base_v1-0"}, "sdxl"),
        (768, {"modelspec.architecture": "medley-tiny/lora"}, "tiny"),
    ],
)
def test_family_is_as_stated_or_guessed_from_the_width(
    width: int, stated: dict[str, str], family: str, tmp_path: Path
) -> None:
    stem = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    tensors = {f"{stem}.lora_A.weight": torch.ones(2, width), f"{stem}.lora_B.weight": torch.ones(4, 2)}
    assert formats.describe(write(tmp_path / "a.safetensors", tensors, stated)).family == family


def test_triggers_fall_back_on_the_tags_of_every_caption(tmp_path: Path) -> None:
    tags = {"10_vest": {"vst": 30, "a cat": 12, "a hill": 3}, "5_more": {"vst": 4}}
    tensors = make(DIALECTS["kohya"]).tensors
    path = write(tmp_path / "a.safetensors", tensors, {"ss_tag_frequency": json.dumps(tags), "ss_output_name": "vest3"})
    info = formats.describe(path)
    assert (info.triggers, info.title, info.weight, info.thumbnail) == (("vst",), "vest3", 1.0, False)
    broken = write(tmp_path / "b.safetensors", tensors, {"ss_tag_frequency": "{"})
    assert formats.describe(broken).triggers == ()


@pytest.mark.parametrize("weight", ["heavy", "nan"])
def test_a_preferred_weight_that_is_no_number_is_refused(weight: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", make(DIALECTS["kohya"]).tensors, {"medley.weight": weight})
    with pytest.raises(BadFile, match=r"medley\.weight.*not a finite number"):
        formats.describe(path)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_alphas_are_read_in_any_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", make(DIALECTS["kohya"], dtype=dtype).tensors)
    assert formats.describe(path).alphas == (0.5, 9.5)


def test_a_checkpoint_is_not_a_lora(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"conv_in.weight": torch.ones(2)})
    with pytest.raises(BadFile, match="without LoRA layers"):
        formats.describe(path)


def test_the_embedded_model_is_listed() -> None:
    assert [(model.name, model.path.name, model.family) for model in models()] == [("tiny", "tiny", "tiny")]
