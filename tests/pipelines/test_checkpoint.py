"""LoRAs merged into a model's weights: the folder draws what the LoRAs draw, here and in diffusers, or is not there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from composer.errors import BadRequest
from composer.request import AdapterUse, RenderRequest
from lora_zoo.header import header
from pipelines import checkpoint, layout, specs
from pipelines.cli import main
from pipelines.engine import Engine
from pipelines.errors import BadModel
from pipelines.fitting import FITS
from pipelines.merges import MergeOrder
from pipelines.model import LoadedModel
from pipelines.sources import ZooSource
from tests.adapters import Kind, Shelf, five, random_adapter, save_kohya
from tests.requests import ask, final_latents

CHOSEN = (
    AdapterUse(name="lora0", weight=0.8, text_encoder_weight=0.3),
    AdapterUse(name="lora2", weight=-0.5, text_encoder_weight=1.0),
    AdapterUse(name="lora4", weight=1.2),
)
UNET = "unet/diffusion_pytorch_model.safetensors"


def order(model: Path, method: str = "cat", adapters: tuple[AdapterUse, ...] = CHOSEN, **parameters: int) -> MergeOrder:
    return MergeOrder(ask(str(model), method=method, adapters=adapters, parameters=parameters))


def unloadable(small: LoadedModel) -> Engine:
    """Return an engine that has LoRAs and cannot load a model."""

    def load(spec: specs.ModelSpec) -> LoadedModel:
        raise AssertionError(f"model {spec.name} was loaded")

    return Engine(Shelf(five(small.layout)), load=load)


def latents(folder: Path, request: RenderRequest, engine: Engine | None = None) -> torch.Tensor:
    return final_latents(engine or Engine(ZooSource()), [request.model_copy(update={"model": str(folder)})])[0]


@pytest.mark.parametrize("method", ["cat", "ties", "nplora"])
def test_it_draws_what_the_loras_draw(
    method: str, engine: Engine, small: LoadedModel, small_folder: Path, tmp_path: Path
) -> None:
    made = checkpoint.export(unloadable(small), order(small_folder, method), tmp_path / "merged")
    wanted = latents(small_folder, ask(str(small_folder), method=method, adapters=CHOSEN), engine)
    found = latents(made.path, ask(str(made.path)))
    assert float((found - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())
    assert float((found - latents(small_folder, ask(str(small_folder)), engine)).abs().max()) > 1e-2


def test_diffusers_loads_it_with_nothing_else(small: LoadedModel, small_folder: Path, tmp_path: Path) -> None:
    made = checkpoint.export(unloadable(small), order(small_folder), tmp_path / "merged")
    pipeline = StableDiffusionPipeline.from_pretrained(made.path, local_files_only=True)
    loaded = LoadedModel.load(specs.find(str(made.path)), torch.device("cpu"))
    ours, base = loaded.unet.state_dict(), small.unet.state_dict()
    assert all(torch.equal(tensor, ours[key]) for key, tensor in pipeline.unet.state_dict().items())
    changed = {key.removesuffix(".weight") for key in base if not torch.equal(ours[key], base[key])}
    touched = {path for one in (0, 2, 4) for path in five(small.layout)[one].component("unet")}
    assert changed == touched
    text, before = loaded.text_encoder.state_dict(), small.text_encoder.state_dict()
    reached = {path for one in (0, 2, 4) for path in five(small.layout)[one].component("text_encoder")}
    assert {key.removesuffix(".weight") for key in text if not torch.equal(text[key], before[key])} == reached
    assert made.layers == len(touched) + len(reached)


def test_its_recipe_is_told_three_times(small: LoadedModel, small_folder: Path, tmp_path: Path) -> None:
    made = checkpoint.export(unloadable(small), order(small_folder, "svd", rank=3), tmp_path / "merged")
    recipe = json.loads((made.path / "medley.json").read_text())
    assert (recipe["method"], recipe["parameters"], recipe["base_model"]) == ("svd", {"rank": 3}, small_folder.name)
    keys = ("name", "weight", "text_encoder_weight")
    assert [tuple(one[key] for key in keys) for one in recipe["loras"]] == [
        ("lora0", 0.8, 0.3),
        ("lora2", -0.5, 1.0),
        ("lora4", 1.2, 1.2),
    ]
    stated = json.loads(header(made.path / UNET).metadata["medley.recipe"])
    assert [one["sha256"] for one in stated["members"]] == [one["sha256"] for one in recipe["loras"]]
    card = (made.path / "README.md").read_text()
    assert "| lora2 | -0.5 | 1 |" in card and "`svd`" in card
    assert str(tmp_path) not in card + json.dumps(recipe)


def changed_copy(model: Path, folder: Path) -> Path:
    shutil.copytree(model, folder)
    return folder


def test_half_precision_stays_and_what_leaves_its_range_is_refused(
    small: LoadedModel, small_folder: Path, tmp_path: Path
) -> None:
    half = changed_copy(small_folder, tmp_path / "half")
    save_file({key: one.half() for key, one in load_file(half / UNET).items()}, half / UNET, {"format": "pt"})
    path, delta = next(iter(five(small.layout)[3].component("unet").items()))
    one = (AdapterUse(name="lora3", weight=0.5),)
    found = load_file(checkpoint.export(unloadable(small), order(half, adapters=one), tmp_path / "one").path / UNET)
    assert {tensor.dtype for tensor in found.values()} == {torch.float16}
    wanted = load_file(half / UNET)[f"{path}.weight"].float() + 0.5 * delta.dense()
    assert torch.allclose(found[f"{path}.weight"].float(), wanted, rtol=1e-3, atol=1e-6)
    big = Engine(Shelf([random_adapter("lora0", small.layout, Kind(2, 2.0, strength=1e7), 99)]), load=lambda _: small)
    with pytest.raises(BadRequest, match="leave the range of torch.float16"):
        checkpoint.export(big, order(half, adapters=CHOSEN[:1]), tmp_path / "big")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["half", "one"]


def test_shards_old_names_and_other_variants(small: LoadedModel, small_folder: Path, tmp_path: Path) -> None:
    base = changed_copy(small_folder, tmp_path / "base")
    (base / UNET).unlink()
    small.unet.save_pretrained(base / "unet", max_shard_size="60KB")  # pyright: ignore[reportCallIssue]
    text = base / "text_encoder" / "model.safetensors"
    save_file({f"text_model.{key}": one for key, one in load_file(text).items()}, text, {"format": "pt"})
    for name in ("unet/diffusion_pytorch_model.fp16.safetensors", "unet/old.bin", "vae/diffusion_pytorch_model.bin"):
        (base / name).write_bytes(b"not read")
    assert layout.read(base) == small.layout
    engine = unloadable(small)
    made = checkpoint.export(engine, order(base), tmp_path / "merged")
    plain = checkpoint.export(engine, order(small_folder), tmp_path / "plain")
    shards = sorted((made.path / "unet").glob("*.safetensors"))
    assert len(shards) > 1 and not list(made.path.rglob("*.bin")) and not list(made.path.rglob("*fp16*"))
    found = {key: one for shard in shards for key, one in load_file(shard).items()}
    wanted = load_file(plain.path / UNET)
    assert found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert all(key.startswith("text_model.") for key in load_file(made.path / "text_encoder" / "model.safetensors"))
    again = LoadedModel.load(specs.find(str(made.path)), torch.device("cpu"))
    assert again.parameter_digest() == LoadedModel.load(specs.find(str(plain.path)), again.device).parameter_digest()


@pytest.mark.parametrize("name", ["small", "sd15"])
def test_the_layout_of_the_files_is_that_of_the_model(name: str, request: pytest.FixtureRequest) -> None:
    model, folder = request.getfixturevalue(name), request.getfixturevalue(f"{name}_folder")
    found = layout.read(folder)
    assert found == model.layout
    for component, path in (("unet", "conv_in"), ("text_encoder", "encoder.layers.0.mlp.fc1")):
        mine, its = found.base(component, path), model.layout.base(component, path)
        assert torch.equal(mine.weight, its.weight) and mine.bias is not None and torch.equal(mine.bias, its.bias)
    bare = found.base("unet", next(path for path in found["unet"] if path.endswith("attn1.to_q")))
    assert bare.bias is None


def test_a_folder_without_safetensors_is_told(small_folder: Path, tmp_path: Path) -> None:
    base = changed_copy(small_folder, tmp_path / "base")
    (base / UNET).unlink()
    with pytest.raises(BadModel, match="has no diffusion_pytorch_model.safetensors"):
        layout.read(base)
    (base / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text("[]")
    with pytest.raises(BadModel, match="is not an index of weights"):
        layout.read(base)


@pytest.fixture
def files(small: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with two LoRA files."""
    for one in (five(small.layout)[0], five(small.layout)[2]):
        save_kohya(one, tmp_path / f"{one.name}.safetensors", alpha=2.0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_fits_too(files: Path, small_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    usual = ["merge", "--method", "ssr", "lora0.safetensors", "lora2.safetensors", "--model", str(small_folder)]
    prompts = ["--prompt", "lora0.safetensors=a cat", "--prompt", "lora2.safetensors=a mat", "--set", "steps=1"]
    assert main([*usual, *prompts, "--into-checkpoint", "whole", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["measured"]["error"] < told["measured"]["error_of_the_sum"]
    recipe = json.loads(Path("whole/medley.json").read_text())
    assert json.loads(recipe["parameters"]["prompts"]) == {"lora0.safetensors": "a cat", "lora2.safetensors": "a mat"}
    assert main([*usual, *prompts, "-o", "one.safetensors"]) == 0
    assert "error of the sum" in capsys.readouterr().out
    assert json.loads(header(Path("one.safetensors")).metadata["medley.measured"]) == told["measured"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ([], "say where to"),
        (["-o", "a.safetensors", "--into-checkpoint", "b"], "say where to"),
        (["--into-checkpoint", "."], "there is something of this name already"),
        (["--into-checkpoint", "new", "--rank", "4"], "'cat' has no rank of its own"),
        (["--into-checkpoint", "new", "--stored-dtype", "float32"], "in the type that the base has"),
        (["--into-checkpoint", "new", "--prompt", "lora0.safetensors=a cat"], "needs no prompts"),
        (["--into-checkpoint", "new", "--method", "ssr"], "states no trigger words"),
        (["--into-checkpoint", "new", "--method", "srr"], "did you mean 'ssr'"),
        (["--into-checkpoint", "new", "--method", "ssr", "--set", "steps=0"], "steps"),
        (["--into-checkpoint", "new", "--method", "ssr", "--prompt", "lora1=a cat"], "LoRA to prompt for 'lora1'"),
        (["--into-checkpoint", "new", "--method", "ssr", "--prompt", "lora0"], "write NAME=TEXT"),
    ],
)
def test_mistakes_exit_with_two_and_write_nothing(
    changed: list[str], message: str, files: Path, small_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["merge", "lora0.safetensors", "--model", str(small_folder), *changed]) == 2
    assert message in capsys.readouterr().err
    assert sorted(one.name for one in files.iterdir()) == ["lora0.safetensors", "lora2.safetensors"]


def test_no_fit_takes_a_methods_name() -> None:
    from composer import registry

    assert not set(FITS) & set(registry.names())
