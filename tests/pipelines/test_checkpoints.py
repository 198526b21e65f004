"""Models in one file: the same as their folders, as diffusers and OpenCLIP read them, and refused when unsound."""

from __future__ import annotations

import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders import single_file_utils as theirs
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from open_clip.transformer import TextTransformer
from safetensors.torch import load_file, save_file
from torch import Tensor

from composer.request import RenderRequest
from lora_zoo.errors import ZooError
from pipelines import clip_tokens, original, specs
from pipelines.engine import Engine
from pipelines.errors import BadModel
from pipelines.model import LoadedModel
from tests import checkpoints
from tests.adapters import Shelf
from tests.checkpoints import SD, XL, Modules
from tests.requests import ask, close, final_latents

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def sd_modules() -> Modules:
    return checkpoints.seeded(SD)


@pytest.fixture(scope="module")
def xl_modules() -> Modules:
    return checkpoints.seeded(XL)  # as the folder of the session's `xl`


@pytest.fixture(scope="module")
def sd_tensors(sd_modules: Modules) -> dict[str, Tensor]:
    return checkpoints.original_tensors(sd_modules)


@pytest.fixture(scope="module")
def xl_file(xl_modules: Modules, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.save_single(xl_modules, tmp_path_factory.mktemp("single") / "xl.safetensors")


def request_for(path: Path) -> RenderRequest:
    return ask(str(path), width=64, height=64, num_inference_steps=1, scheduler="euler")


def latents(model: LoadedModel, path: Path) -> Tensor:
    return final_latents(Engine(Shelf(), load=lambda spec: model), [request_for(path)])[0]


@pytest.mark.thorough
def test_an_sdxl_file_is_its_folder(xl_file: Path, xl: LoadedModel, xl_folder: Path) -> None:
    single = LoadedModel.load(specs.find(str(xl_file)), CPU)
    assert single.parameter_digest() == xl.parameter_digest()
    assert close(latents(single, xl_file), latents(xl, xl_folder))


def test_an_sd_file_is_its_folder(sd_modules: Modules, sd_tensors: dict[str, Tensor], tmp_path: Path) -> None:
    file = tmp_path / "sd.safetensors"
    half = {f"model_ema.{number}": torch.zeros(1) for number in range(3)}
    marks = {"cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None]}
    save_file({**sd_tensors, **half, **marks, "alphas_cumprod": torch.ones(1000)}, str(file))
    single = LoadedModel.load(specs.find(str(file)), CPU)
    folder = LoadedModel.load(specs.find(str(checkpoints.save_folder(sd_modules, tmp_path / "folder"))), CPU)
    assert single.parameter_digest() == folder.parameter_digest()
    assert close(latents(single, file), latents(folder, tmp_path / "folder"))


@pytest.mark.parametrize("name", ["sd_modules", "xl_modules"])
def test_diffusers_conversion_finds_the_same_weights(name: str, request: pytest.FixtureRequest) -> None:
    made: dict[str, Any] = request.getfixturevalue(name)
    tensors = checkpoints.original_tensors(made)
    found: dict[str, dict[str, Any]] = {
        "unet": theirs.convert_ldm_unet_checkpoint(dict(tensors), made["unet"].config),
        "vae": theirs.convert_ldm_vae_checkpoint(dict(tensors), made["vae"].config),
        "text_encoder": theirs.convert_ldm_clip_checkpoint(dict(tensors)),
    }
    if "text_encoder_2" in made:
        second = theirs.convert_open_clip_checkpoint(made["text_encoder_2"], dict(tensors), original.OPEN_CLIP_OF_SDXL)
        found["text_encoder_2"] = second
    for component, converted in found.items():
        wanted = dict(made[component].named_parameters())
        first = component == "text_encoder"
        state = {key.removeprefix("text_model.") if first else key: value for key, value in converted.items()}
        assert set(state) == set(wanted)
        assert all(torch.equal(state[key], wanted[key]) for key in wanted)


def test_the_second_text_encoder_is_open_clips(xl_modules: Modules, tmp_path: Path) -> None:
    """Weights made by OpenCLIP's own class, with its fused projections, give its own states and pooled text."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        oracle = TextTransformer(77, checkpoints.TOKENS, 128, heads=2, layers=2, output_dim=128).eval()
    tensors = checkpoints.original_tensors(xl_modules)
    state = {original.OPEN_CLIP_OF_SDXL + key: value for key, value in oracle.state_dict().items()}
    assert set(state) == {key for key in tensors if key.startswith(original.OPEN_CLIP_OF_SDXL)}
    save_file({**tensors, **{key: value.contiguous() for key, value in state.items()}}, tmp_path / "xl.safetensors")
    model = LoadedModel.load(specs.find(str(tmp_path / "xl.safetensors")), CPU)
    ids = clip_tokens.tokenizer("text_encoder_2")("a cat on a mat", padding="max_length")["input_ids"]
    states: list[Any] = []
    oracle.transformer.resblocks[0].register_forward_hook(lambda _module, _inputs, out: states.append(out))
    with torch.no_grad():
        ours, pooled = model.encode("a cat on a mat", ()), oracle(torch.tensor([ids]))
    assert ours.pooled is not None
    torch.testing.assert_close(ours.pooled, pooled, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.embeds[..., 64:], states[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("extra", "metadata", "stated"),
    [
        ({}, {}, ("epsilon", False)),
        ({"v_pred": torch.empty(0)}, {}, ("v_prediction", False)),
        ({"v_pred": torch.empty(0), "ztsnr": torch.empty(0)}, {}, ("v_prediction", True)),
        ({}, {"modelspec.prediction_type": "v"}, ("v_prediction", False)),
    ],
    ids=["plain", "v-mark", "v-and-zero-snr-marks", "v-stated"],
)
def test_what_a_file_says_that_it_predicts(
    extra: dict[str, Tensor], metadata: dict[str, str], stated: tuple[str, bool], xl_modules: Modules, tmp_path: Path
) -> None:
    path = checkpoints.save_single(xl_modules, tmp_path / "xl.safetensors", extra, metadata)
    spec = specs.find(str(path))
    assert (spec.configs.prediction, bool(spec.configs.scheduler.get("rescale_betas_zero_snr"))) == stated
    resolved = Engine(Shelf(), load=lambda spec: pytest.fail("loaded")).resolve(request_for(path))
    assert resolved.request.prediction_type == stated[0]


def test_a_prediction_may_be_told(xl: LoadedModel, xl_folder: Path) -> None:
    engine = Engine(Shelf(), load=lambda spec: xl)
    told = request_for(xl_folder).model_copy(update={"prediction_type": "v_prediction"})
    assert engine.render(told).record.pixels_sha256 != engine.render(request_for(xl_folder)).record.pixels_sha256
    solver = xl.new_solver("euler", 2, torch.Generator(), {"prediction_type": "v_prediction"})
    oracle: Any = EulerDiscreteScheduler.from_config({**xl.spec.configs.scheduler, "prediction_type": "v_prediction"})
    oracle.set_timesteps(2)
    start, noise = torch.ones(1, 4, 2, 2), torch.full((1, 4, 2, 2), 0.5)
    oracle.scale_model_input(start, oracle.timesteps[0])
    wanted = oracle.step(noise, oracle.timesteps[0], start).prev_sample
    solver.scale_input(start, solver.steps[0])
    assert torch.equal(solver.advance(noise, solver.steps[0], start), wanted)


@pytest.mark.parametrize(
    ("marks", "family"),
    [
        (("edm_mean", "edm_std"), "Playground 2.5"),
        (("edm_vpred.sigma_max",), "CosXL"),
        (("edm_vpred.sigma_min", "edm_vpred.sigma_max"), "CosXL"),
    ],
)
def test_files_of_other_noise_schedules_are_refused_by_their_family(
    marks: tuple[str, ...], family: str, xl_modules: Modules, tmp_path: Path
) -> None:
    path = checkpoints.save_single(xl_modules, tmp_path / "xl.safetensors", {mark: torch.ones(4) for mark in marks})
    with pytest.raises(BadModel, match=rf"family of {re.escape(family)}, whose noise schedule \(EDM\)"):
        specs.find(str(path))


def test_a_text_encoder_may_be_named_as_newer_libraries_do(
    sd_modules: Modules, sd_tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    short = {key.replace("transformer.text_model.", "transformer."): value for key, value in sd_tensors.items()}
    assert short.keys() != sd_tensors.keys()
    digests: list[str] = []
    for name, tensors in (("old", sd_tensors), ("new", short)):
        path = tmp_path / f"{name}.safetensors"
        save_file(tensors, str(path))
        digests.append(LoadedModel.load(specs.find(str(path)), CPU).parameter_digest())
    assert digests[0] == digests[1]


Damage = Callable[[dict[str, Tensor]], dict[str, Tensor]]
FIRST = "model.diffusion_model.input_blocks.1.0.in_layers.2.weight"


def without(pattern: str) -> Damage:
    return lambda tensors: {key: value for key, value in tensors.items() if not re.search(pattern, key)}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            without(r"middle_block\.0\.in_layers\.2\.weight"),
            r"lacks model\.diffusion_model\.middle_block\.0\.in_layers",
        ),
        (without(r"input_blocks\.1\.0\.in_layers\.2\.weight"), f"lacks {FIRST}"),
        (without("^first_stage_model"), r"lacks a whole component: VAE \(first_stage_model"),
        (without("^cond_stage_model"), r"lacks a whole component: text_encoder \(cond_stage_model"),
        (without("^model"), "no model in the layout of SD1.5 or SDXL"),
        (
            lambda tensors: {**tensors, "first_stage_model.more": torch.ones(1)},
            "no part of the model: first_stage_model",
        ),
        (
            lambda tensors: {**tensors, f"{original.UNET}out.0.bias": torch.ones(7)},
            r"out\.0\.bias is \[7\], not \[32\]",
        ),
        (
            lambda tensors: {**tensors, f"{original.UNET}input_blocks.0.0.weight": torch.ones(32, 9, 3, 3)},
            "reads 9 channels and latents have 4: a model for inpainting",
        ),
        (
            lambda tensors: {**tensors, "cond_stage_model.model.ln_final.weight": torch.ones(1)},
            "Stable Diffusion 2 in one file",
        ),
        (lambda _: {"lora_unet_conv_in.lora_down.weight": torch.ones(4, 4, 1, 1)}, "a LoRA, not a model"),
        (lambda _: {"double_blocks.0.img_attn.qkv.weight": torch.ones(1)}, "of the family flux"),
        (lambda _: {"down_blocks.0.resnets.0.conv1.weight": torch.ones(1)}, "one component of a model"),
    ],
    ids=[
        *("parameter-missing", "block-missing", "no-vae", "no-text", "no-unet", "left-over", "shape"),
        *("inpainting", "sd2", "lora", "flux", "component"),
    ],
)
def test_unsound_files(damage: Damage, message: str, sd_tensors: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(damage(sd_tensors), str(path))
    with pytest.raises(BadModel, match=message) as caught:
        LoadedModel.load(specs.find(str(path)), CPU)
    assert str(path) in str(caught.value)


def test_pickles_and_truncated_files(sd_tensors: dict[str, Tensor], tmp_path: Path) -> None:
    """A pickle is told by its content, whatever it is called."""
    zipped, plain, cut = tmp_path / "a.safetensors", tmp_path / "b.ckpt", tmp_path / "c.safetensors"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    plain.write_bytes(pickle.dumps({"state_dict": {}}, protocol=2))
    save_file(sd_tensors, str(cut))
    cut.write_bytes(cut.read_bytes()[:-1000])
    for path, message in ((zipped, "zip archive"), (plain, "a pickle, which can run code"), (cut, "outside the file")):
        with pytest.raises(ZooError, match=message) as caught:
            specs.find(str(path))
        assert str(path) in str(caught.value)


def test_folders_are_read_whole(xl_folder: Path, tmp_path: Path) -> None:
    for place, (name, change, message) in enumerate(
        [
            ("text_encoder_2", without(r"text_projection\.weight"), "missing keys .*text_projection"),
            ("unet", lambda tensors: {**tensors, "extra": torch.ones(1)}, "unexpected keys .*extra"),
            ("vae", lambda tensors: {**tensors, "decoder.conv_in.bias": torch.ones(3)}, "decoder.conv_in.bias"),
        ]
    ):
        folder = tmp_path / str(place)
        folder.mkdir()
        for part in xl_folder.iterdir():
            if part.is_dir() and part.name != name:
                (folder / part.name).symlink_to(part)
        shutil.copy(xl_folder / "model_index.json", folder)
        (folder / name).mkdir()
        (folder / name / "config.json").write_bytes((xl_folder / name / "config.json").read_bytes())
        weights = next((xl_folder / name).glob("*.safetensors"))
        save_file(change(load_file(str(weights))), str(folder / name / weights.name), {"format": "pt"})
        with pytest.raises(BadModel, match=message) as caught:
            LoadedModel.load(specs.find(str(folder)), CPU)
        assert str(folder / name) in str(caught.value)


def test_folders_of_other_pipelines(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(BadModel, match="made for diffusers' FluxPipeline; only SD1.5, SD2 and SDXL"):
        specs.find(str(tmp_path))
