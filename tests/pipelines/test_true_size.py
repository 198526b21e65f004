"""SD1.5 and SDXL at their true size: by their heads alone, and (`-m slow`) SD1.5's 860 million weights in a picture."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import pytest
import torch
from accelerate import init_empty_weights

from composer.request import AdapterUse
from pipelines import loading, single_file, specs
from pipelines.engine import Engine
from pipelines.model import LoadedModel
from pipelines.runtime import Runtime
from pipelines.sources import ZooSource
from tests import checkpoints
from tests.adapters import ATTENTION, BOTH, Kind, random_adapter, save_plain
from tests.checkpoints import SD, TRUE_SD, TRUE_XL, Widths
from tests.requests import ask, close, final_latents

#: What published files hold: tensors under the roots of UNet, VAE and text encoders, with position ids and scales.
PUBLISHED = {
    False: {"model.diffusion_model.": 686, "first_stage_model.": 248, "cond_stage_model.": 197},
    True: {
        "model.diffusion_model.": 1680,
        "first_stage_model.": 248,
        "conditioner.embedders.0.": 197,
        "conditioner.embedders.1.": 390,
    },
}
UNUSED = {
    False: {"cond_stage_model.transformer.text_model.embeddings.position_ids": (1, 77)},
    True: {
        "conditioner.embedders.0.transformer.text_model.embeddings.position_ids": (1, 77),
        "conditioner.embedders.1.model.logit_scale": (),
    },
}


def sparse_file(shapes: dict[str, tuple[int, ...]], path: Path) -> Path:
    """Write a file whose head is real and whose data, all zeros, takes no room on the disk."""
    head, end = {}, 0
    for key, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        head[key] = {"dtype": "F16", "shape": list(shape), "data_offsets": [begin, end]}
    content = json.dumps(head).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(content)) + content)
        file.truncate(8 + len(content) + end)
    return path


@pytest.mark.sampled(1)
@pytest.mark.parametrize("widths", [TRUE_SD, TRUE_XL], ids=["sd15", "sdxl"])
def test_every_key_of_a_published_file_is_accounted_for(widths: Widths, tmp_path: Path) -> None:
    with init_empty_weights(include_buffers=False):
        made = checkpoints.modules(widths)
    shapes = {key: tuple(value.shape) for key, value in checkpoints.original_tensors(made).items()}
    shapes |= UNUSED[widths.sdxl]
    counted = {root: sum(key.startswith(root) for key in shapes) for root in PUBLISHED[widths.sdxl]}
    assert counted == PUBLISHED[widths.sdxl]
    path = sparse_file(shapes, tmp_path / "model.safetensors")
    spec, found = specs.find(str(path)), single_file.read(path)
    empty = loading.empty(spec.configs)
    assert {name: {k: p.shape for k, p in one.named_parameters()} for name, one in empty.items()} == {
        name: {k: p.shape for k, p in one.named_parameters()} for name, one in made.items()
    }
    loading.check(found, empty, {name: loading.origins_of(found, name, one) for name, one in empty.items()})
    assert (spec.family, spec.width) == (("sdxl", 1024) if widths.sdxl else ("sd15", 512))
    for component, module in made.items():
        config, wanted = empty[component].config, module.config
        same = ("attention_head_dim", "num_attention_heads", "hidden_act", "projection_dim", "scaling_factor")
        assert [getattr(config, key, None) for key in same] == [getattr(wanted, key, None) for key in same]


def test_the_slow_proof_runs_at_reduced_width(tmp_path: Path) -> None:
    prove(SD, tmp_path, side=64)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_sd15_at_its_true_size(tmp_path: Path) -> None:
    prove(TRUE_SD, tmp_path, side=256)


def prove(widths: Widths, tmp_path: Path, side: int) -> None:
    """Render a model from its folder and from its file, in two steps with three LoRAs: the same picture."""
    made = checkpoints.seeded(widths)
    assert widths is not TRUE_SD or 8.5e8 < sum(p.numel() for p in made["unet"].parameters()) < 8.7e8
    folder = checkpoints.save_folder(made, tmp_path / "folder")
    single = checkpoints.save_single(made, tmp_path / "model.safetensors")
    del made
    latents: list[torch.Tensor] = []
    files = [tmp_path / f"lora{seed}.safetensors" for seed in range(3)]
    for path in (folder, single):
        model = LoadedModel.load(specs.find(str(path)), torch.device("cpu"), Runtime(dtype="float32"))
        for seed, file in enumerate(files):
            if not file.exists():
                kind = Kind(8, 8.0, ATTENTION, BOTH, strength=0.05)
                save_plain(random_adapter(file.stem, model.layout, kind, seed), file)
        engine = Engine(ZooSource(), load=lambda spec, model=model: model)
        adapters = tuple(AdapterUse(name=str(file), weight=0.7) for file in files)
        request = ask(str(path), width=side, height=side, num_inference_steps=2, adapters=adapters)
        latents.extend(final_latents(engine, [request]))
        del model, engine
    assert close(*latents)
