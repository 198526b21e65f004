"""Changes to biases and normalisation as they lie in files, beside LyCORIS's own modules in use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lycoris.modules.full import FullModule
from lycoris.modules.norms import NormModule
from safetensors.torch import save_file
from torch import Tensor, nn

from lora_zoo import formats
from lora_zoo.adapter import Adapter, BaseLayer, ModelLayout
from lora_zoo.errors import BadFile
from pipelines.vectors import vector_parameters

RESNET = "down_blocks.0.resnets.0"
SPELLINGS = {  # kohya's, and the original's, which ComfyUI writes
    "conv_in": ("lora_unet_conv_in", "diffusion_model.input_blocks.0.0"),
    f"{RESNET}.norm1": (f"lora_unet_{RESNET.replace('.', '_')}_norm1", "diffusion_model.input_blocks.1.0.in_layers.0"),
    f"{RESNET}.time_emb_proj": (
        f"lora_unet_{RESNET.replace('.', '_')}_time_emb_proj",
        "diffusion_model.input_blocks.1.0.emb_layers.1",
    ),
}


def model() -> nn.Module:
    """Return a convolution, a normalisation and a linear layer at the places where a UNet has them."""
    resnet = nn.ModuleDict({"norm1": nn.GroupNorm(2, 8), "time_emb_proj": nn.Linear(6, 8)})
    blocks = nn.ModuleList([nn.ModuleDict({"resnets": nn.ModuleList([resnet])})])
    made = nn.ModuleDict({"conv_in": nn.Conv2d(4, 8, 3), "down_blocks": blocks})
    with torch.no_grad():
        for place, parameter in enumerate(made.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(place)))
    return made


def layout(made: nn.Module) -> ModelLayout:
    layers = {path: part for path, part in made.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)}
    shapes = {path: tuple(layer.weight.shape) for path, layer in layers.items()}
    vectors = {path: tuple(p.shape) for path, p in vector_parameters(made).items()}
    return ModelLayout(
        {"unet": shapes}, lambda c, path: BaseLayer(layers[path].weight, layers[path].bias), {"unet": vectors}
    )


def read(tensors: dict[str, Tensor], made: nn.Module, folder: Path) -> Adapter:
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / "a.safetensors")
    return formats.read(folder / "a.safetensors", layout(made))


def drawn(*shape: int) -> Tensor:
    return 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("path", SPELLINGS)
@pytest.mark.parametrize("spelling", [0, 1], ids=["kohya", "original"])
def test_a_layer_does_what_lycoris_makes_of_it(path: str, spelling: int, tmp_path: Path) -> None:
    theirs, ours = model(), model()
    layer, stem = theirs.get_submodule(path), SPELLINGS[path][spelling]
    norm = isinstance(layer, nn.GroupNorm)
    module: nn.Module = NormModule("x", layer) if norm else FullModule("x", layer)
    for parameter in module.parameters():
        parameter.data.copy_(drawn(*parameter.shape))
    names = {"w_norm": "w_norm", "b_norm": "b_norm"} if norm else {"weight": "diff", "bias": "diff_b"}
    tensors = {f"{stem}.{names[name]}": p.detach().clone() for name, p in module.named_parameters()}
    assert len(tensors) == 2
    found = read(tensors, ours, tmp_path)
    parameters = dict(ours.named_parameters())
    with torch.no_grad():
        for place, delta in found.component("unet").items():
            parameters[f"{place}.weight"].add_(delta.dense())
        for place, change in found.vectors["unet"].items():
            parameters[place].add_(change)
    x = drawn(2, 6) if isinstance(layer, nn.Linear) else drawn(2, layer.weight.shape[-1] if norm else 4, 5, 5)
    module.eval().apply_to()  # pyright: ignore[reportCallIssue]
    torch.testing.assert_close(ours.get_submodule(path)(x), layer(x).detach(), rtol=1e-5, atol=1e-6)


def test_comfyuis_extracts_change_normalisation_by_diff(tmp_path: Path) -> None:
    stem = SPELLINGS[f"{RESNET}.norm1"][1]
    found = read({f"{stem}.diff": drawn(8), f"{stem}.diff_b": drawn(8) * 2}, model(), tmp_path)
    assert found.component("unet") == {}
    assert torch.equal(found.vectors["unet"][f"{RESNET}.norm1.weight"], drawn(8))
    assert torch.equal(found.vectors["unet"][f"{RESNET}.norm1.bias"], drawn(8) * 2)
    assert len(list(found.tensors())) == 2


@pytest.mark.parametrize(
    ("key", "change", "why"),
    [
        (f"{RESNET}.norm1:w_norm", torch.ones(9), r"\[9\] does not fit the \[8\]"),
        (f"{RESNET}.norm1:alpha", torch.ones(()), "which a change of normalisation has not"),
        (f"{RESNET}.norm1:b_norm", torch.full((8,), torch.nan), "not finite"),
        ("conv_in:w_norm", torch.ones(8), "normalisation layers, which are not among"),
        ("conv_in:diff_b", torch.ones(4), r"\[4\] does not fit the \[8\] of conv_in.bias"),
        ("conv_in:lora_B.bias", torch.ones(8), "up factor"),
    ],
)
def test_what_does_not_fit_is_refused(key: str, change: Tensor, why: str, tmp_path: Path) -> None:
    path, _, part = key.partition(":")
    with pytest.raises(BadFile, match=why):
        read({f"{SPELLINGS[path][0]}.{part}": change}, model(), tmp_path)
