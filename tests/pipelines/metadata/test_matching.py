"""From another tool's picture to a request here: by hash, then by name, and never by guessing."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import save_file

from lora_zoo.catalog import Catalog, entry_for
from lora_zoo.library import Library
from pipelines.errors import BadMetadata
from pipelines.metadata import hashes, readers
from pipelines.metadata.found import Found, FoundLora
from pipelines.metadata.matching import match_to
from pipelines.sources import AdapterInfo
from tests.pipelines.metadata.samples import chunks

LAYER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def lora(folder: Path, name: str, metadata: dict[str, str] | None = None) -> Path:
    """Write a small LoRA whose data depend on its name."""
    value = float(sum(map(ord, name)))
    down, up = numpy.full((2, 32), value, "float32"), numpy.ones((32, 2), "float32")
    path = folder / f"{name}.safetensors"
    save_file({f"{LAYER}.lora_down.weight": down, f"{LAYER}.lora_up.weight": up}, path, metadata)
    return path


@pytest.fixture
def zoo(tmp_path: Path) -> Library:
    names = ("salt", "Foam_v2", "kelp", "KELP")
    return Library(Catalog(tmp_path, tuple(entry_for(lora(tmp_path, name)) for name in names)))


def found(*loras: FoundLora) -> Found:
    read = readers.read(chunks("a1111"))
    assert read is not None
    return dataclasses.replace(read, loras=loras, model="tiny")


@pytest.mark.parametrize("digits", [10, 64])
def test_a_lora_is_known_by_its_sha256_whatever_its_name(digits: int, zoo: Library) -> None:
    one = FoundLora("renamed", 0.5, 0.25, zoo.entries()[0].sha256[:digits])
    (use,) = match_to(found(one), zoo, False, False).request.adapters
    assert (use.name, use.weight, use.text_encoder_weight, use.sha256) == ("salt", 0.5, 0.25, zoo.entries()[0].sha256)


def test_a_lora_is_known_by_autov3(zoo: Library) -> None:
    digest = hashes.autov3(zoo.path(zoo.entries()[1]))
    matched = match_to(found(FoundLora("salt", 1.0, None, digest)), zoo, False, False)
    assert matched.request.adapters[0].name == "Foam_v2"  # the hash is believed before the name
    assert not any("matched by its name" in remark for remark in matched.remarks)


def test_autov3_is_of_the_data_or_as_stated(tmp_path: Path) -> None:
    plain = hashes.autov3(lora(tmp_path, "a"))
    assert plain == hashes.autov3(lora(tmp_path, "a", {"ss_comment": "another head"}))
    assert hashes.autov3(lora(tmp_path, "a", {"sshs_model_hash": "0xABCDEF0123456789"})) == "abcdef012345"
    assert hashes.autov3(lora(tmp_path, "a", {"sshs_model_hash": "e3b0c44298fc1c14"})) == plain
    assert plain is not None
    assert len(plain) == 12


def test_files_are_known_by_the_hashes_of_other_tools(tmp_path: Path) -> None:
    path = lora(tmp_path, "a")
    here, nowhere = (AdapterInfo("a", "0" * 64, None, 1.0, file=file) for file in (path, None))
    known = hashes.of_files(tmp_path, {"here": replace(here, civitai_version=7), "nowhere": nowhere})
    assert (known.model, known.adapters, known.versions) == (None, {"here": hashes.autov3(path)}, {"here": 7})
    assert hashes.of_files(path, {}).model == hashlib.sha256(path.read_bytes()).hexdigest()[:10]


def test_a_name_is_enough_and_a_strange_hash_is_told(zoo: Library) -> None:
    one = FoundLora("foam v2", None, None, "0" * 12)
    matched = match_to(found(one, FoundLora("SALT", 1.0, None, "blake3:0")), zoo, False, False)
    assert [use.name for use in matched.request.adapters] == ["Foam_v2", "salt"]
    told = " | ".join(matched.remarks)
    assert "hash '000000000000' is not that of the file" in told
    assert "not computed here" in told
    assert "weight of LoRA 'foam v2'" in told
    assert "Clip skip" in told


def test_what_cannot_be_matched_is_named_unless_the_user_names_another(zoo: Library) -> None:
    both = found(FoundLora("slat", 1.0, None, "0" * 12), FoundLora("nobody", 1.0))
    with pytest.raises(BadMetadata, match=r"'slat'; did you mean 'salt'.*000000000000.*'nobody'.*--lora"):
        match_to(both, zoo, False, False)
    assert match_to(both, zoo, False, True).request.adapters == ()
    with pytest.raises(BadMetadata, match="'Kelp'"):  # two are alike
        match_to(found(FoundLora("Kelp", 1.0)), zoo, False, False)
    other = dataclasses.replace(both, model="harbour", model_hash="0a1b2c3d4e", loras=())
    with pytest.raises(BadMetadata, match="'harbour'.*0a1b2c3d4e.*--model"):
        match_to(other, zoo, False, False)
    with pytest.raises(BadMetadata, match="does not name its model"):
        match_to(dataclasses.replace(other, model=None), zoo, False, False)
    assert match_to(other, zoo, True, False).request.model == "tiny"


def test_a_default_that_steps_in_is_told(zoo: Library) -> None:
    bare = dataclasses.replace(found(), seed=None, scheduler=None)
    told = match_to(bare, zoo, False, False).remarks
    assert "seed: not found in the picture; the default is used" in told
    assert "scheduler: not found in the picture; the default is used" in told
