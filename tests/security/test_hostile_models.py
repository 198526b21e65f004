"""Model folders made to harm whoever opens them: each is refused in words, or does nothing beyond a sound one's."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lora_zoo import catalog
from lora_zoo.errors import ZooError
from pipelines import specs
from pipelines.model import LoadedModel

TINY = catalog.models()[0].path
WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
CONFIGS = {**{part: "config.json" for part in WEIGHTS}, "scheduler": "scheduler_config.json"}

Harm = Callable[[Path], object]


def of(part: str, **changes: object) -> Harm:
    """Change fields of a part's configuration."""
    return lambda folder: rewritten(folder / part / CONFIGS[part], lambda found: found | changes)


def without(part: str, name: str) -> Harm:
    return lambda folder: (folder / part / name).unlink()


def rewritten(path: Path, change: Callable[[Any], object]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def raw(name: str, content: str | bytes) -> Harm:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def instead(name: str, make: Callable[[Path], object]) -> Harm:
    """Put something else in a file's place."""

    def act(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return act


def linked(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


def big(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


def index(part: str, *names: str, more: bool = True) -> Harm:
    """Put an index of shards in a part's folder that names these files."""

    def act(folder: Path) -> None:
        stem = folder / part / f"{WEIGHTS[part]}.safetensors"
        keys = list(load_file(stem))
        listed = {key: names[place % len(names)] for place, key in enumerate(keys)}
        stem.with_name(f"{stem.name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": listed}))
        if more:
            pickled = pickle.dumps({"state": os.getcwd}, protocol=2)
            (folder / part / "pytorch_model.bin").write_bytes(pickled)
            (folder / part / "renamed.safetensors").write_bytes(pickled)

    return act


def tensors(part: str, change: Callable[[dict[str, torch.Tensor]], object]) -> Harm:
    def act(folder: Path) -> None:
        path = folder / part / f"{WEIGHTS[part]}.safetensors"
        found = load_file(path)
        change(found)
        path.unlink()
        save_file(found, path, {"format": "pt"})

    return act


def first(found: dict[str, torch.Tensor]) -> str:
    return next(iter(found))


UNET, TEXT, VAE = (f"{part}/{CONFIGS[part]}" for part in ("unet", "text_encoder", "vae"))
SCHEDULER, INDEX = "scheduler/scheduler_config.json", "model_index.json"
DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000
VOCABULARY, MERGES, TOKENIZER = "tokenizer/vocab.json", "tokenizer/merges.txt", "tokenizer/tokenizer_config.json"
UNET_WEIGHTS = f"unet/{WEIGHTS['unet']}.safetensors"

REFUSED: dict[str, Harm] = {
    # documents
    **{f"{name} is no JSON": raw(name, "{") for name in (INDEX, UNET, TEXT, VAE, SCHEDULER)},
    **{f"{name} is a list": raw(name, "[1]") for name in (INDEX, UNET, TEXT, VAE, SCHEDULER)},
    **{f"{name} is deep": raw(name, DEEP) for name in (INDEX, UNET, TEXT)},
    "a configuration of numbers without end": raw(UNET, '{"in_channels": ' + "9" * 100_000 + "}"),
    "a configuration of 240 MB": instead(UNET, big),
    "a configuration in UTF-16": raw(TEXT, "{}".encode("utf-16")),
    "a configuration with half of a character": raw(TEXT, '{"hidden_act": "\\ud800"}'),
    "an infinite number": raw(SCHEDULER, '{"beta_start": 1e999, "beta_end": 0.02}'),
    # files that are none
    "a configuration that is a pipe": instead(UNET, os.mkfifo),
    "a configuration that is a device": instead(TEXT, linked("/dev/zero")),
    "an index that is a device": instead(INDEX, linked("/dev/zero")),
    "a configuration that leads out": instead(SCHEDULER, linked("/etc/hostname")),
    "a configuration that is a folder": instead(VAE, Path.mkdir),
    "weights that are a pipe": instead(UNET_WEIGHTS, os.mkfifo),
    "weights that are a device": instead(UNET_WEIGHTS, linked("/dev/zero")),
    "weights that lead out": instead(UNET_WEIGHTS, linked(str(TINY / UNET_WEIGHTS))),
    "weights that lead nowhere": instead(UNET_WEIGHTS, linked("nowhere")),
    "weights that are zeros": instead(UNET_WEIGHTS, big),
    "a vocabulary that is a pipe": instead(VOCABULARY, os.mkfifo),
    "a vocabulary that leads out": instead(VOCABULARY, linked("/etc/hostname")),
    "merges that are a device": instead(MERGES, linked("/dev/zero")),
    # sizes
    "negative channels": of("unet", in_channels=-4),
    "channels of text": of("unet", in_channels="12"),
    "channels of truth": of("unet", out_channels=True),
    "ten billion channels": of("unet", block_out_channels=[10**10] * 3),
    "no channels": of("unet", block_out_channels=[]),
    "a thousand levels": of("unet", block_out_channels=[32] * 1000, down_block_types=["DownBlock2D"] * 1000),
    "levels that differ": of("unet", block_out_channels=[64, 128]),
    "a million layers": of("unet", layers_per_block=1_000_000),
    "many layers of many blocks": of("unet", layers_per_block=100, transformer_layers_per_block=100),
    "a width of nothing": of("unet", cross_attention_dim=0),
    "heads of nothing": of("unet", attention_head_dim=0),
    "groups that do not divide": of("unet", norm_num_groups=7),
    "blocks of an unknown class": of("unet", down_block_types=["os.system"] * 3),
    "blocks of numbers": of("unet", down_block_types=[1, 2, 3]),
    "a middle block of an unknown class": of("unet", mid_block_type="subprocess"),
    "an unknown activation": of("unet", act_fn="__import__('os')"),
    "an encoder of pictures": of("unet", encoder_hid_dim_type="image_proj"),
    "conditions beyond": of("unet", addition_embed_type="image"),
    "a picture of a million pixels a side": of("unet", sample_size=10**6),
    "latents of another size": of("vae", latent_channels=4),
    "a factor that is not a number": of("vae", scaling_factor="x"),
    "a factor of nothing": of("vae", scaling_factor=0),
    "widths of a VAE that are text": of("vae", block_out_channels="abc", decoder_block_out_channels="abc"),
    "a text encoder without heads": of("text_encoder", num_attention_heads=0),
    "heads that do not divide": of("text_encoder", num_attention_heads=5),
    "a text encoder of a billion tokens": of("text_encoder", vocab_size=10**9),
    "a text encoder of a billion layers": of("text_encoder", num_hidden_layers=10**9),
    "places without end": of("text_encoder", max_position_embeddings=10**9),
    "an activation that is no word": of("text_encoder", hidden_act=["gelu"]),
    "an unknown activation of texts": of("text_encoder", hidden_act="os.system"),
    "another text encoder": of("text_encoder", model_type="t5"),
    "steps without end": of("scheduler", num_train_timesteps=10**12),
    "no steps": of("scheduler", num_train_timesteps=0),
    "betas without end": of("scheduler", trained_betas=[0.1] * 100_000),
    "betas of text": of("scheduler", beta_start="0.1"),
    "another prediction": of("scheduler", prediction_type="flow"),
    "another schedule": of("scheduler", _class_name="EDMEulerScheduler"),
    # code
    "quantised weights": of("text_encoder", quantization_config={"quant_method": "custom"}),
    "a pipeline of its own": lambda folder: rewritten(folder / INDEX, lambda i: i | {"_class_name": "Own"}),
    # weights
    "an index of a pickle": index("unet", "pytorch_model.bin"),
    "an index of a renamed pickle": index("unet", "renamed.safetensors"),
    "an index that leads out": index("unet", "../vae/diffusion_pytorch_model.safetensors"),
    "an index of an absolute path": index("unet", str(TINY / UNET_WEIGHTS)),
    "an index of what is not there": index("unet", "a.safetensors"),
    "an index of a folder": index("unet", "."),
    "an index of nothing": raw("unet/diffusion_pytorch_model.safetensors.index.json", '{"weight_map": {}}'),
    "an index of numbers": raw("unet/diffusion_pytorch_model.safetensors.index.json", '{"weight_map": {"a": 1}}'),
    "an index that is deep": raw("text_encoder/model.safetensors.index.json", DEEP),
    "weights that are a pickle": raw(UNET_WEIGHTS, pickle.dumps({}, protocol=2)),
    "no weights but a pickle": lambda folder: (folder / UNET_WEIGHTS).rename(folder / "unet" / "pytorch_model.bin"),
    "weights cut short": lambda folder: os.truncate(folder / UNET_WEIGHTS, 100_000),
    "a parameter missing": tensors("unet", lambda found: found.pop(first(found))),
    "a parameter too many": tensors("vae", lambda found: found.update(extra=torch.ones(1))),
    "a parameter of another shape": tensors("text_encoder", lambda found: found.update({first(found): torch.ones(3)})),
    # texts
    "no vocabulary": lambda folder: [path.unlink() for path in (folder / "tokenizer").iterdir()],
    "a vocabulary of nothing": raw(VOCABULARY, "{}"),
    "a vocabulary of texts": raw(VOCABULARY, '{"a": "1"}'),
    "a vocabulary of one number": raw(VOCABULARY, '{"a": 1, "b": 1}'),
    "a vocabulary beyond memory": raw(VOCABULARY, '{"a": 4000000000}'),
    "merges of nothing known": raw(MERGES, "#version: 0.2\nqwx zkj\n"),
    "merges of one token": raw(MERGES, "abc\n"),
    "a length that is no number": raw(TOKENIZER, '{"model_max_length": "77"}'),
    "a special token that is a number": raw(TOKENIZER, '{"pad_token": 3}'),
}

#: What asks for code, files or kernels of somebody else's, and is not heard.
UNHEARD: dict[str, Harm] = {
    "attention from the hub": of("text_encoder", attn_implementation="org/kernel", _attn_implementation="org/kernel"),
    "code from the hub": of("text_encoder", auto_map={"AutoModel": "org/repo--modeling.Evil"}),
    "a name on the hub": of("unet", _name_or_path="org/repo"),
    "a class of the text encoder": of("text_encoder", architectures=["Evil"], transformers_version="99"),
    "code of the tokenizer": lambda folder: rewritten(
        folder / TOKENIZER,
        lambda found: found | {"auto_map": {"AutoTokenizer": ["a.B", None]}, "tokenizer_class": "Evil"},
    ),
    "a template of the tokenizer": lambda folder: rewritten(
        folder / TOKENIZER, lambda found: found | {"chat_template": "{% for x in range(10**9) %}{% endfor %}"}
    ),
    "patterns of the tokenizer": lambda folder: rewritten(
        folder / "tokenizer" / "tokenizer.json",
        lambda found: found | {"normalizer": {"type": "Replace", "pattern": {"Regex": "(a+)+b"}, "content": ""}},
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a sound model of its own."""
    made = tmp_path / "model"
    shutil.copytree(TINY, made)
    return made


def load(folder: Path) -> LoadedModel:
    """Do all that a rendering does with a model's files."""
    model = LoadedModel.load(specs.find(str(folder)), torch.device("cpu"))
    model.new_solver("ddim", 2, torch.Generator(), {"prediction_type": model.spec.configs.prediction})
    model.encode("a cat", ())
    return model


@pytest.mark.sampled(12)
@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", REFUSED)
def test_a_hostile_model_is_refused_in_words(case: str, folder: Path) -> None:
    REFUSED[case](folder)
    with pytest.raises(ZooError) as caught:
        load(folder)
    assert 0 < len(str(caught.value)) < 2000


@pytest.mark.sampled(2)
@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", UNHEARD)
def test_what_a_model_asks_of_others_is_not_heard(case: str, folder: Path) -> None:
    sound = load(TINY)
    UNHEARD[case](folder)
    model = load(folder)
    assert model.parameter_digest() == sound.parameter_digest()
    assert torch.equal(model.encode("a aab cat", ()).embeds, sound.encode("a aab cat", ()).embeds)


def test_shards_are_read_as_one_file(folder: Path) -> None:
    """A sound index is heard: the tensors of two files make the same model."""
    path = folder / UNET_WEIGHTS
    found = load_file(path)
    keys = list(found)
    path.unlink()
    halves = {"a.safetensors": keys[::2], "b.safetensors": keys[1::2]}
    for name, own in halves.items():
        save_file({key: found[key] for key in own}, folder / "unet" / name)
    listed = {key: name for name, own in halves.items() for key in own}
    (folder / f"{UNET_WEIGHTS}.index.json").write_text(json.dumps({"weight_map": listed}))
    assert load(folder).parameter_digest() == load(TINY).parameter_digest()
