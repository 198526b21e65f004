"""Files of six families beside models of six families: every wrong pairing is named, every right one taken."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
from safetensors.numpy import save_file

from lora_zoo.fit import Fit, fit

Shapes = dict[str, tuple[int, ...]]

_BLOCK = "down_blocks.1.attentions.0.transformer_blocks"
_CONTEXT = {"tiny": 128, "sd15": 768, "sd2": 1024, "sdxl": 2048}


def unet(family: str) -> Shapes:
    """Return a few layers of a UNet family, at their true names and input widths."""
    deep = 2 if family == "sdxl" else 1
    inner = {"tiny": 64, "sd15": 640, "sd2": 640, "sdxl": 640}[family]
    found: Shapes = {}
    for depth in range(deep):
        found[f"{_BLOCK}.{depth}.attn1.to_q"] = (inner, inner)
        found[f"{_BLOCK}.{depth}.attn2.to_k"] = (inner, _CONTEXT[family])
    return found


LAYOUTS: dict[str, dict[str, Shapes]] = {
    **{family: {"unet": unet(family), "text_encoder": {}} for family in _CONTEXT},
    "sd3": {"transformer": {"transformer_blocks.0.attn.add_q_proj": (1536, 1536)}, "text_encoder_2": {}},
    "flux": {"transformer": {"single_transformer_blocks.0.attn.to_q": (3072, 3072)}, "text_encoder_2": {}},
}
LAYOUTS["sdxl"]["text_encoder_2"] = {"text_model.encoder.layers.0.self_attn.q_proj": (1280, 1280)}

FILES: dict[str, Shapes] = {
    **{family: {f"lora_unet_{path.replace('.', '_')}": s for path, s in unet(family).items()} for family in _CONTEXT},
    "sd3": {"lora_unet_joint_blocks_0_context_block_attn_qkv": (4608, 1536)},
    "flux": {"lora_unet_double_blocks_0_img_attn_qkv": (9216, 3072)},
}
FAMILIES = sorted(FILES)


def write(path: Path, layers: Shapes, metadata: dict[str, str] | None = None) -> Path:
    tensors = {}
    for name, (out, into) in layers.items():
        tensors[f"{name}.lora_down.weight"] = numpy.zeros((4, into), "float16")
        tensors[f"{name}.lora_up.weight"] = numpy.zeros((out, 4), "float16")
        tensors[f"{name}.alpha"] = numpy.array(2.0, "float32")
    save_file(tensors, path, metadata)
    return path


@pytest.fixture
def fits(tmp_path: Path) -> dict[tuple[str, str], Fit]:
    paths = {family: write(tmp_path / f"{family}.safetensors", layers) for family, layers in FILES.items()}
    return {(file, model): fit(paths[file], LAYOUTS[model]) for file in FAMILIES for model in FAMILIES}


def test_every_pairing_of_six_families_is_named(fits: dict[tuple[str, str], Fit]) -> None:
    for (file, model), found in fits.items():
        if file != model:
            assert found.verdict == f"made for {file}, as its layers tell; this model is {model}"
            assert not found.fits
        else:
            assert found.told == found.model == file


@pytest.mark.parametrize("family", sorted(_CONTEXT))
def test_a_right_pairing_fits_in_full(family: str, fits: dict[tuple[str, str], Fit]) -> None:
    found = fits[family, family]
    (component,) = found.components
    assert found.fits
    assert found.verdict == f"made for {family}, as its layers tell"
    assert (component.matched, component.total) == (len(FILES[family]), len(FILES[family]))
    assert (component.kinds, component.ranks, component.strengths) == (("lora",), (4, 4), (0.5, 0.5))


def test_modules_that_have_names_but_not_sizes_in_common_do_not_count(fits: dict[tuple[str, str], Fit]) -> None:
    (component,) = fits["sd2", "sd15"].components
    assert (component.matched, component.total) == (1, 2)
    assert [name.rpartition("_")[2] for name in component.misshapen] == ["k"]


def test_what_a_file_says_of_itself_is_not_believed_against_its_layers(tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", FILES["sd15"], {"ss_base_model_version": "sdxl_base_v1-0"})
    assert fit(path, LAYOUTS["sd15"]).verdict == "made for sd15, as its layers tell (its metadata says sdxl)"
    wrong = fit(path, LAYOUTS["sd2"]).verdict
    assert wrong == "made for sd15, as its layers tell; this model is sd2 (its metadata says sdxl)"


@pytest.mark.parametrize(
    ("layers", "family"),
    [
        ({"transformer.transformer_blocks.0.attn.to_q": (1536, 1536)}, "sd3"),
        ({"transformer.transformer_blocks.37.attn.add_k_proj": (2432, 2432)}, "sd3"),
        ({"transformer.transformer_blocks.0.attn.add_q_proj": (3072, 3072)}, "flux"),
        ({"transformer.transformer_blocks.18.attn.to_v": (3072, 3072)}, "flux"),
        ({"transformer.single_transformer_blocks.3.attn.to_q": (3072, 3072)}, "flux"),
        ({"transformer.transformer_blocks.59.attn.add_q_proj": (3072, 3072)}, "unknown"),  # another's, of this build
        ({"transformer.transformer_blocks.0.attn.to_q": (5120, 5120)}, "unknown"),
        ({"lora_transformer_transformer_blocks_0_attn_to_q": (1536, 1536)}, "sd3"),
        ({"lora_unet_double_blocks_0_img_attn_qkv": (9216, 3072)}, "flux"),
        ({"lora_unet_joint_blocks_0_x_block_attn_qkv": (4608, 1536)}, "sd3"),
        ({f"unet.{path}": shape for path, shape in unet("sdxl").items()}, "sdxl"),
        ({"lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k": (640, 768)}, "sd15"),
        ({"unet.down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_q": (1536, 1536)}, "unknown"),
    ],
    ids=str,
)
def test_transformers_whose_blocks_are_called_alike_are_told_apart(layers: Shapes, family: str, tmp_path: Path) -> None:
    found = fit(write(tmp_path / "x.safetensors", layers), LAYOUTS["sd15"])
    assert found.told == family
    assert not found.fits or family == "sd15"


def test_layers_too_many_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", {**FILES["sd15"], "lora_unet_up_blocks_9_attn": (8, 8)})
    found = fit(path, LAYOUTS["sd15"])
    assert found.verdict == "does not fit: modules that the model has not: unet.up_blocks_9_attn"
    assert not found.fits


def test_a_file_that_tells_nothing_is_judged_by_its_layers(tmp_path: Path) -> None:
    plain = {"lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q": (640, 640)}
    path = write(tmp_path / "x.safetensors", plain)
    assert fit(path, LAYOUTS["sd15"]).verdict == "all its layers are in this model; they do not tell a family"
    path = write(tmp_path / "y.safetensors", plain, {"ss_base_model_version": "sd_v2"})
    assert "made for sd2, as its metadata says" in fit(path, LAYOUTS["sd15"]).verdict
