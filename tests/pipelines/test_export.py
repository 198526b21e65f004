"""Merges as files: what is written is what was merged, here and as diffusers loads it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from peft.tuners.lora import Conv2d, Linear
from safetensors.torch import load_file
from torch import Tensor, nn

from composer import registry
from composer.errors import BadRequest
from composer.merges.common import Weighted
from composer.merging import MergingMethod
from composer.request import AdapterUse, RenderRequest
from lora_zoo import formats
from lora_zoo.adapter import Adapter, LowRank
from pipelines.cli import main
from pipelines.engine import Engine
from pipelines.export import Exported, export
from pipelines.merges import MergeOrder
from pipelines.model import LoadedModel
from tests.adapters import five, save_kohya
from tests.requests import ask, uses

EXACT = ("cat", "svd", "knots", "lego", "opcm", "nplora", "lora_soups", "ziplora")
WHOLE = ("magnitude", "ties", "dare", "dare_ties")


def asked(
    model: Path, method: str, adapters: tuple[AdapterUse, ...] | None = None, rank: int | None = None
) -> RenderRequest:
    """Ask for the LoRAs that differ most: lora2 and lora4 reach convolutions and the text encoder."""
    chosen = adapters or (uses(1)[0], uses(1, 2)[0], uses(1, 4)[0])
    return ask(str(model), method=method, adapters=chosen, parameters={} if rank is None else {"rank": rank})


def prepared(small: LoadedModel, request: RenderRequest) -> Adapter:
    shelf = {one.name: one for one in five(small.layout)}
    method = registry.create(request.method, request.parameters)
    assert isinstance(method, MergingMethod)
    return method.prepare([Weighted(shelf[use.name], use.weight or 0.0) for use in request.adapters])


def same(found: Tensor, wanted: Tensor, tolerance: float = 3e-3) -> bool:
    return float((found.reshape(wanted.shape) - wanted).norm()) <= tolerance * float(wanted.norm()) + 1e-6


def read(path: Path, small: LoadedModel) -> dict[tuple[str, str], LowRank]:
    layers = formats.read(path, small.layout).layers
    return {(c, p): d for c, paths in layers.items() for p, d in paths.items() if isinstance(d, LowRank)}


def write(engine: Engine, request: RenderRequest, rank: int | None, path: Path) -> Exported:
    return export(engine, MergeOrder(request, rank), path)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("method", EXACT)
def test_a_file_holds_what_was_merged(
    method: str, engine: Engine, small: LoadedModel, small_folder: Path, tmp_path: Path
) -> None:
    request = asked(small_folder, method)
    made = write(engine, request, None, tmp_path / "merged.safetensors")
    found, wanted = read(made.path, small), prepared(small, request)
    assert len(found) == made.layers == sum(len(paths) for paths in wanted.layers.values())
    assert all(same(delta.dense(), wanted.component(c)[p].dense()) for (c, p), delta in found.items())
    ranks = [delta.rank for delta in found.values()]
    assert made.ranks == (min(ranks), max(ranks))
    assert made.energy_kept == pytest.approx(1.0) or method == "svd"


@pytest.mark.sampled(3)
@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("method", WHOLE)
def test_what_is_of_no_rank_is_cut(
    method: str, rank: int | None, engine: Engine, small: LoadedModel, small_folder: Path, tmp_path: Path
) -> None:
    request = asked(small_folder, method)
    made = write(engine, request, rank, tmp_path / "merged.safetensors")
    wanted = prepared(small, request)
    kept = whole = 0.0
    for (component, path), delta in read(made.path, small).items():
        merged = wanted.component(component)[path].dense().double().flatten(1)
        assert delta.rank <= (rank or 18)
        u, s, vh = torch.linalg.svd(merged, full_matrices=False)
        best = u[:, : delta.rank] @ torch.diag(s[: delta.rank]) @ vh[: delta.rank]
        assert same(delta.dense().double().flatten(1), best)
        kept, whole = kept + float(best.square().sum()), whole + float(merged.square().sum())
    assert made.energy_kept == pytest.approx(kept / whole, abs=1e-4)


def test_a_rank_of_its_own_is_chosen_by_it(engine: Engine, small_folder: Path, tmp_path: Path) -> None:
    made = [
        write(engine, asked(small_folder, name, rank=own), rank, tmp_path / f"{n}.safetensors")
        for n, (name, rank, own) in enumerate([("svd", 5, None), ("svd", None, 5), ("lego", 5, None), ("cat", 5, None)])
    ]
    recipes = [json.loads(formats.header(one.path).metadata["medley.recipe"])["parameters"] for one in made]
    assert recipes == [{"rank": 5}, {"rank": 5}, {"rank": 5, "reweight": True}, {}]
    assert all(one.ranks[1] == 5 for one in made)
    assert made[0].energy_kept == pytest.approx(made[3].energy_kept, abs=1e-6) and made[0].energy_kept < 0.999


def deltas_of(model: nn.Module) -> dict[str, Tensor]:
    layers = {name: one for name, one in model.named_modules() if isinstance(one, Conv2d | Linear)}
    return {name: one.get_delta_weight(one.active_adapters[0]).detach() for name, one in layers.items()}


@pytest.mark.parametrize(("method", "rank"), [("cat", None), ("ties", 3)])
def test_diffusers_loads_it_at_full_strength(
    method: str, rank: int | None, engine: Engine, small: LoadedModel, small_folder: Path, tmp_path: Path
) -> None:
    made = write(engine, asked(small_folder, method), rank, tmp_path / "merged.safetensors")
    pipeline = StableDiffusionPipeline.from_pretrained(small_folder, local_files_only=True)
    pipeline.load_lora_weights(str(tmp_path), weight_name=made.path.name)
    loaded = {("unet", name): delta for name, delta in deltas_of(pipeline.unet).items()}
    loaded |= {("text_encoder", name): delta for name, delta in deltas_of(pipeline.text_encoder).items()}
    ours = read(made.path, small)
    assert loaded.keys() == ours.keys()
    assert all(same(loaded[key], delta.dense(), 1e-4) for key, delta in ours.items())


def test_keys_and_metadata_are_those_that_other_tools_know(engine: Engine, small_folder: Path, tmp_path: Path) -> None:
    chosen = (AdapterUse(name="lora0", weight=0.5, text_encoder_weight=1.0), AdapterUse(name="lora2", weight=-0.25))
    path = write(engine, asked(small_folder, "cat", chosen), None, tmp_path / "two.safetensors").path
    tensors = load_file(path)
    assert all(key.startswith(("lora_unet_", "lora_te_text_model_encoder_layers_")) for key in tensors)
    assert all(key.endswith((".lora_down.weight", ".lora_up.weight")) for key in tensors)
    assert {tensor.ndim for key, tensor in tensors.items() if "resnets" in key and "_conv" in key} == {4}
    about = formats.header(path).metadata
    recipe = json.loads(about["medley.recipe"])
    assert [(one["name"], one["weight"]) for one in recipe["members"]] == [("lora0", 0.5), ("lora2", -0.25)]
    text = json.loads(about["medley.recipe.text_encoder"])
    assert [one["weight"] for one in text["members"]] == [1.0, -0.25]
    assert (about["modelspec.merged_from"], about["modelspec.title"]) == ("lora0, lora2", "two")
    assert (about["ss_network_dim"], about["medley.energy_kept"]) == ("Dynamic", "1.000000")
    content = path.read_bytes()
    data = content[8 + int.from_bytes(content[:8], "little") :]
    assert about["sshs_model_hash"] == hashlib.sha256(data).hexdigest()


@pytest.fixture
def files(small: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with two LoRA files."""
    for one in five(small.layout)[:2]:
        save_kohya(one, tmp_path / f"{one.name}.safetensors", alpha=2.0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command(files: Path, small: LoadedModel, small_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loras = ["lora0.safetensors:0.5", "lora1.safetensors"]
    arguments = [
        "merge",
        "--method",
        "svd",
        *loras,
        "-o",
        "out.safetensors",
        "--rank",
        "3",
        "--model",
        str(small_folder),
    ]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("out.safetensors  ") and "of the energy kept" in printed
    first, second = five(small.layout)[:2]
    key = next(path for path in first.component("unet") if path in second.component("unet"))
    wanted = 0.5 * first.component("unet")[key].dense() + second.component("unet")[key].dense()
    u, s, vh = torch.linalg.svd(wanted)
    assert same(read(Path("out.safetensors"), small)["unet", key].dense(), u[:, :3] @ torch.diag(s[:3]) @ vh[:3])
    assert (
        main([*arguments[:5], "-o", "all.safetensors", "--set", "rank=4", "--model", str(small_folder), "--json"]) == 0
    )
    assert json.loads(capsys.readouterr().out).keys() == {"path", "layers", "ranks", "energy_kept", "measured"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["-o", "out.ckpt"], "ends in .safetensors"),
        (["-o", "lora1.safetensors"], "there is a file of this name already"),
        (["--method", "switch"], "has no file; choose one of cat"),
        (["--method", "merge"], "'cat' is the plain sum"),
        (["--method", "tiess"], "did you mean 'ties'"),
        (["--set", "density=2"], "density"),
        (["--method", "cat", "lora1.safetensors:x"], "'x' is not a number"),
        (["lora0.safetensors:1"], "once"),
        (["lora7.safetensors"], "lora7"),
        (["--rank", "0"], "rank"),
        (["--dtype", "float15"], "did you mean 'float16'"),
    ],
)
def test_mistakes_exit_with_two_and_write_nothing(
    changed: list[str], message: str, files: Path, small_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = ["merge", "lora0.safetensors", "-o", "out.safetensors", "--method", "ties", "--model", str(small_folder)]
    assert main([*usual, *changed]) == 2
    assert message in capsys.readouterr().err
    assert sorted(one.name for one in files.iterdir()) == ["lora0.safetensors", "lora1.safetensors"]


@pytest.mark.parametrize(("dtype", "error"), [(None, 3e-3), ("float16", 3e-3), ("bfloat16", 2e-2), ("float32", 1e-5)])
def test_values_are_stored_in_the_type_asked_for(
    dtype: str | None, error: float, engine: Engine, small: LoadedModel, small_folder: Path, tmp_path: Path
) -> None:
    request = asked(small_folder, "cat")
    made = export(engine, MergeOrder(request, dtype=dtype), tmp_path / "merged.safetensors")
    assert {tensor.dtype for tensor in load_file(made.path).values()} == {getattr(torch, dtype or "float16")}
    wanted = prepared(small, request)
    found = read(made.path, small)
    assert all(same(delta.dense(), wanted.component(c)[p].dense(), error) for (c, p), delta in found.items())


def test_no_weight_is_nothing_to_write(engine: Engine, small_folder: Path, tmp_path: Path) -> None:
    off = (AdapterUse(name="lora0", weight=0.0),)
    with pytest.raises(BadRequest, match="every weight is 0"):
        write(engine, asked(small_folder, "cat", off), None, tmp_path / "a.safetensors")
