"""Folders as PEFT saves them: the configuration decides the strength, and one folder may hold several."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lora_zoo import formats
from lora_zoo.errors import BadFile
from tests.lora_zoo.files import DIALECTS, LAYOUT, make, write
from tests.lora_zoo.test_formats import flat


@pytest.mark.parametrize("rslora", [False, True])
def test_peft_folder_takes_alphas_from_its_config(rslora: bool, tmp_path: Path) -> None:
    made = make(DIALECTS["peft"])
    folder = tmp_path / "striped_vest"
    folder.mkdir()
    write(folder / "adapter_model.safetensors", made.tensors)
    config = {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "alpha_pattern": {"attn1.to_q": 9}, "use_rslora": rslora}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    adapter = formats.read(folder, LAYOUT)
    assert adapter.name == "striped_vest"
    assert formats.read(folder / "adapter_model.safetensors", LAYOUT).digest == adapter.digest
    for (component, path), delta in flat(adapter).items():
        rank = made.tensors[f"base_model.model.{path}.lora_A.weight"].shape[0]
        scale = (9 if path.endswith("attn1.to_q") else 6) / (rank**0.5 if rslora else rank)
        torch.testing.assert_close(delta, made.deltas[component, path] * scale)
    (folder / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 7}))
    assert formats.read(folder, LAYOUT).digest != adapter.digest
    assert formats.describe(folder).alphas == (7, 9)


def test_a_folder_of_peft_folders_is_one_lora(tmp_path: Path) -> None:
    made = make(DIALECTS["peft"])
    for component in ("unet", "text_encoder"):
        folder = tmp_path / "rose" / component
        folder.mkdir(parents=True)
        names = {f"base_model.model.{path}" for path in LAYOUT[component]}
        tensors = {k: t for k, t in made.tensors.items() if k.rpartition(".lora_")[0] in names}
        write(folder / "adapter_model.safetensors", tensors)
        (folder / "adapter_config.json").write_text(json.dumps({"lora_alpha": 2 if component == "unet" else 3}))
    adapter = formats.read(tmp_path / "rose", LAYOUT)
    info = formats.describe(tmp_path / "rose")
    assert (adapter.name, info.name, adapter.digest) == ("rose", "rose", info.sha256)
    assert (info.components, info.modules) == (("unet", "text_encoder"), len(made.deltas))
    for (component, path), delta in flat(adapter).items():
        rank = made.tensors[f"base_model.model.{path}.lora_A.weight"].shape[0]
        alpha = 2 if component == "unet" else 3
        torch.testing.assert_close(delta, made.deltas[component, path] * alpha / rank)
    with pytest.raises(BadFile, match="text_encoder, which this model has not"):
        formats.read(tmp_path / "rose", {"unet": LAYOUT["unet"]})
    with pytest.raises(BadFile, match="several files of weights"):
        formats.header(tmp_path / "rose")


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ("{", "not JSON"),
        ('{"peft_type": "VERA"}', "kind vera"),
        ('{"use_dora": true}', "no magnitude, though the configuration says DoRA"),
        ('{"lora_alpha": "8"}', "finite number"),
        ('{"alpha_pattern": {"(": 1}}', "regular expression"),
    ],
)
def test_a_bad_peft_config_is_refused(config: str, wanted: str, tmp_path: Path) -> None:
    write(tmp_path / "adapter_model.safetensors", make(DIALECTS["peft"]).tensors)
    with pytest.raises(BadFile, match="adapter_config.json missing"):
        formats.read(tmp_path, LAYOUT)
    (tmp_path / "adapter_config.json").write_text(config)
    with pytest.raises(BadFile, match=wanted):
        formats.read(tmp_path, LAYOUT)
