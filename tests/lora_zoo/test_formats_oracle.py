"""Our deltas against those of diffusers and PEFT, on files that both read: theirs and ours."""

from pathlib import Path

import pytest
import torch
from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import Conv2d, Linear
from torch import Tensor, nn

from lora_zoo import formats, sgm
from lora_zoo.adapter import Layout
from tests.lora_zoo.files import write

TARGETS = ["to_q", "to_k", "to_out.0", "proj_in", "ff.net.2", "conv1", "conv_shortcut", "downsamplers.0.conv"]


def config(rslora: bool = False) -> LoraConfig:
    return LoraConfig(
        r=4,
        lora_alpha=2,
        target_modules=TARGETS,
        rank_pattern={"attn2.to_k": 2, "conv1": 3},
        alpha_pattern={"attn1.to_q": 8, "conv1": 5},
        init_lora_weights=False,
        use_rslora=rslora,
    )


@pytest.fixture
def unet() -> UNet2DConditionModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet2DConditionModel(
            block_out_channels=(8, 16),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=12,
            attention_head_dim=4,
            norm_num_groups=4,
        )


def layout_of(model: nn.Module) -> dict[str, dict[str, tuple[int, ...]]]:
    layers = {name: m for name, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))}
    return {"unet": {name: tuple(layer.weight.shape) for name, layer in layers.items()}}


def deltas_of(model: nn.Module) -> dict[str, Tensor]:
    layers = {name: m for name, m in model.named_modules() if isinstance(m, (Conv2d, Linear))}
    return {
        name.removeprefix("base_model.model."): layer.get_delta_weight(layer.active_adapters[0]).detach()
        for name, layer in layers.items()
    }


def assert_same(path: Path, layout: Layout, wanted: dict[str, Tensor]) -> None:
    found = {name: delta.dense() for name, delta in formats.read(path, layout).component("unet").items()}
    assert wanted and found.keys() == wanted.keys()
    for name, delta in wanted.items():
        assert (found[name] - delta).abs().max() <= 1e-6 * max(1.0, float(delta.abs().max())), name


@pytest.mark.parametrize("rslora", [False, True])
def test_files_saved_by_diffusers(rslora: bool, unet: UNet2DConditionModel, tmp_path: Path) -> None:
    layout = layout_of(unet)
    unet.add_adapter(config(rslora))
    unet.save_lora_adapter(tmp_path, weight_name="a.safetensors")
    assert_same(tmp_path / "a.safetensors", layout, deltas_of(unet))


def test_folders_saved_by_peft(unet: UNet2DConditionModel, tmp_path: Path) -> None:
    layout = layout_of(unet)
    model = get_peft_model(unet, config())  # pyright: ignore[reportArgumentType]  # any module will do
    model.save_pretrained(str(tmp_path))
    assert_same(tmp_path, layout, deltas_of(model))
    info = formats.describe(tmp_path)
    assert (info.dialect, info.ranks, info.alphas, info.family) == ("peft", (2, 4), (2, 8), "tiny")


#: diffusers takes the original name of this one for an attention layer; that is so only where the block has attention.
UPSAMPLER = "up_blocks.0.upsamplers.0.conv"


def kohya(layout: Layout, original_names: bool) -> dict[str, Tensor]:
    """Make a LoCon file with one alpha and rank, for diffusers mis-scales kohya files where they differ."""
    generator = torch.Generator().manual_seed(1)
    originals = {path: name for name, path in sgm.names(layout["unet"]).items()}
    tensors: dict[str, Tensor] = {}
    for path, shape in layout["unet"].items():
        if original_names and path == UPSAMPLER:
            continue
        name = originals[path] if original_names else path
        stem = f"lora_unet_{name.replace('.', '_')}"
        tensors[f"{stem}.lora_down.weight"] = torch.randn(4, *shape[1:], generator=generator)
        tensors[f"{stem}.lora_up.weight"] = torch.randn(shape[0], 4, *(1 for _ in shape[2:]), generator=generator)
        tensors[f"{stem}.alpha"] = torch.tensor(1.0)
    return tensors


@pytest.mark.parametrize("original_names", [False, True])
def test_kohya_files_as_diffusers_loads_them(original_names: bool, unet: UNet2DConditionModel, tmp_path: Path) -> None:
    layout = layout_of(unet)
    tensors = kohya(layout, original_names)
    path = write(tmp_path / "a.safetensors", tensors)
    loader = StableDiffusionLoraLoaderMixin
    converted = loader.lora_state_dict(dict(tensors), unet_config=unet.config)
    loader.load_lora_into_unet(converted[0], converted[1], unet)
    assert_same(path, layout, deltas_of(unet))


def test_old_diffusers_files_as_diffusers_loads_them(unet: UNet2DConditionModel, tmp_path: Path) -> None:
    layout = layout_of(unet)
    generator = torch.Generator().manual_seed(2)
    tensors: dict[str, Tensor] = {}
    for path, shape in layout["unet"].items():
        head, _, last = path.removesuffix(".0").rpartition(".")
        if last in ("to_q", "to_k", "to_v", "to_out"):
            tensors[f"unet.{head}.processor.{last}_lora.down.weight"] = torch.randn(4, shape[1], generator=generator)
            tensors[f"unet.{head}.processor.{last}_lora.up.weight"] = torch.randn(shape[0], 4, generator=generator)
    unet.load_lora_adapter(dict(tensors), prefix="unet")
    assert_same(write(tmp_path / "a.safetensors", tensors), layout, deltas_of(unet))


def sd15_layers() -> list[str]:
    """Return a module of every residual network, attention and sampler of the SD1.5 UNet."""
    paths: list[str] = []
    for block in range(4):
        paths += [f"down_blocks.{block}.resnets.{i}.conv2" for i in range(2)]
        paths += [f"down_blocks.{block}.attentions.{i}.proj_in" for i in range(2) if block < 3]
        paths += [f"down_blocks.{block}.downsamplers.0.conv" for _ in range(block < 3)]
        paths += [f"up_blocks.{block}.resnets.{i}.conv2" for i in range(3)]
        paths += [f"up_blocks.{block}.attentions.{i}.proj_in" for i in range(3) if block > 0]
        paths += [f"up_blocks.{block}.upsamplers.0.conv" for _ in range(block < 3)]
    return [*paths, "mid_block.resnets.0.conv1", "mid_block.attentions.0.proj_in", "mid_block.resnets.1.conv2"]


@pytest.mark.parametrize(
    ("original", "path"),
    [
        ("input_blocks.3.0.op", "down_blocks.0.downsamplers.0.conv"),
        ("input_blocks.4.1.proj_in", "down_blocks.1.attentions.0.proj_in"),
        ("input_blocks.11.0.out_layers.3", "down_blocks.3.resnets.1.conv2"),
        ("middle_block.1.proj_in", "mid_block.attentions.0.proj_in"),
        ("middle_block.2.out_layers.3", "mid_block.resnets.1.conv2"),
        ("output_blocks.2.1.conv", "up_blocks.0.upsamplers.0.conv"),
        ("output_blocks.5.2.conv", "up_blocks.1.upsamplers.0.conv"),
        ("output_blocks.11.1.proj_in", "up_blocks.3.attentions.2.proj_in"),
    ],
)
def test_original_names_of_sd15(original: str, path: str) -> None:
    assert sgm.names(sd15_layers())[original] == path


def test_every_layer_has_an_original_name() -> None:
    assert sorted(sgm.names(sd15_layers()).values()) == sorted(sd15_layers())
