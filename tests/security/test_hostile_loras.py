"""LoRA files and PEFT folders made to harm whoever opens them: each is read, or refused in words, and soon."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lora_zoo import formats, hashes
from lora_zoo.adapter import BaseLayer, ModelLayout
from lora_zoo.errors import BadFile, UnsupportedKind, ZooError
from lora_zoo.sources import locate

PATH = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
LAYOUT = ModelLayout({"unet": {PATH: (8, 8)}}, lambda component, path: BaseLayer(torch.eye(8), None))
KEY = f"base_model.model.{PATH}"
#: A pattern on which engines that go back double their time with each letter.
ENDLESS = "(([a-z_.0-9]+)+)+X"
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def lora(path: Path, metadata: dict[str, str] | None = None, stem: str = KEY) -> None:
    factors = {f"{stem}.lora_A.weight": torch.ones(2, 8), f"{stem}.lora_B.weight": torch.ones(8, 2)}
    save_file(factors, path, metadata)


def folder(place: Path, config: object) -> Path:
    lora(place / WEIGHTS)
    (place / CONFIG).write_text(json.dumps(config))
    return place


@pytest.mark.timeout(60)
@pytest.mark.parametrize("field", ["rank_pattern", "alpha_pattern"])
def test_patterns_take_no_time(field: str, tmp_path: Path) -> None:
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, field: {ENDLESS: 7, ".*to_q": 4}}
    adapter = formats.read(folder(tmp_path, config), LAYOUT)
    strength = 2.0 if field == "alpha_pattern" else 1.0  # of 4 / 2, where the pattern that fits is of alphas
    assert torch.equal(adapter.component("unet")[PATH].dense(), torch.full((8, 8), 2 * strength))
    stated = {"lora_adapter_metadata": json.dumps({f"unet.{name}": value for name, value in config.items()})}
    lora(tmp_path / "a.safetensors", stated, f"unet.{PATH}")
    assert formats.describe(tmp_path / "a.safetensors").modules == 1
    found = formats.read(tmp_path / "a.safetensors", LAYOUT).component("unet")[PATH].dense()
    assert torch.equal(found, torch.full((8, 8), 2 * strength))


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"init_lora_weights": "olora", "rank_pattern": {ENDLESS: 3}}, "is no name of a layer"),
        ({"init_lora_weights": "olora", "alpha_pattern": {f"a{n}": 1 for n in range(10_001)}}, "10,001 patterns"),
        ({"rank_pattern": {f"a{n}": 1 for n in range(10_001)}}, "10,001 patterns"),
        ({"alpha_pattern": {"(?=a)b": 1}}, "regular expression"),
        ({"alpha_pattern": {"a." * 1000: 1}}, "at most 1,000"),
        ({"alpha_pattern": {"((a{999}){999}){999}": 1}}, "regular expression"),
        ({"init_lora_weights": "pissa_niter_100000000"}, "begin as 'pissa_niter_100000000'"),
        ({"init_lora_weights": "loftq", "loftq_config": {"loftq_iter": 10**9}}, "begin as 'loftq'"),
        ({"bias": "all", "kasa_config": {"rounds": 10**9}}, "1000000000; 65536 is the largest"),
        ({"peft_type": "XLORA", "adapters": {"a": "org/repo"}}, "kind xlora are not read"),
        (
            {"peft_type": "PROMPT_TUNING", "tokenizer_name_or_path": "org/repo", "prompt_tuning_init": "TEXT"},
            "kind prompt_tuning are not read",
        ),
        ({"peft_type": "CPT", "tokenizer_name_or_path": "org/repo"}, "kind cpt are not read"),
        ({"peft_type": "IA3", "bias": "all", "feedforward_modules": ENDLESS}, "is no name of a layer"),
        ({"peft_type": "FOURIERFT", "n_frequency_pattern": {ENDLESS: 3}}, "is no name of a layer"),
        ({"modules_to_save": [ENDLESS], "bias": "all"}, "modules_to_save"),
    ],
)
def test_configurations_that_would_harm_are_refused(config: dict[str, object], told: str, tmp_path: Path) -> None:
    path = folder(tmp_path, {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["to_q"], **config})
    started = time.process_time()
    with pytest.raises(BadFile, match=told):
        formats.read(path, LAYOUT)
    assert time.process_time() - started < 30


Place = Callable[[Path], object]


def lead_out(path: Path) -> None:
    secret = path.parent.parent / "secret"
    secret.write_text('{"peft_type": "LORA", "r": 2}')
    path.symlink_to(secret)


def big(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(240 << 20)


PLACES: dict[str, Place] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
    "240 MB": big,
    "nothing": lambda path: path.symlink_to("nowhere"),
    "deep": lambda path: path.write_text('{"a":' * 10**6),
    "UTF-16": lambda path: path.write_text("{}", "utf-16"),
    "half of a character": lambda path: path.write_text('{"peft_type": "\\ud800"}'),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("place", [*PLACES, "out"])
def test_a_configuration_that_is_no_file_of_the_folder(place: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    lora(home / WEIGHTS)
    (PLACES | {"out": lead_out})[place](home / CONFIG)
    for look in (formats.describe, lambda path: formats.read(path, LAYOUT)):
        with pytest.raises(ZooError):
            look(home)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("place", [place for place in PLACES if place not in ("nothing", "folder")])
def test_weights_that_are_no_file(place: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    PLACES[place](path)
    for look in (formats.describe, lambda path: formats.read(path, LAYOUT), hashes.autov3):
        with pytest.raises(ZooError):
            look(path)


def test_weights_exchanged_for_a_pipe_are_not_waited_for(tmp_path: Path) -> None:
    """A file may become something else after it was found."""
    path = tmp_path / "a.safetensors"
    lora(path, stem=f"unet.{PATH}")
    source, head = locate(path), formats.header(path)
    path.unlink()
    os.mkfifo(path)
    for act in (source.digest, lambda: hashes.of_lora(source, head)):
        with pytest.raises(BadFile, match="a pipe"):
            act()


def test_kinds_that_fetch_from_the_hub_are_unsupported(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedKind, match="adapters of kind xlora are not read; of PEFT's, adalora"):
        formats.read(folder(tmp_path, {"peft_type": "XLORA"}), LAYOUT)
