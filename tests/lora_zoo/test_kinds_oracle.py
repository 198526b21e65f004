"""Our deltas beside those of the libraries that write such files: LyCORIS and PEFT, on the files they would save."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lycoris.modules.boft import ButterflyOFTModule
from lycoris.modules.diag_oft import DiagOFTModule
from lycoris.modules.glora import GLoRAModule
from lycoris.modules.ia3 import IA3Module
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from peft import (
    BOFTConfig,
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    PeftConfig,
    ShiraConfig,
    get_peft_model,
)
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from lora_zoo import formats
from lora_zoo.adapter import BaseLayer, ModelLayout
from tests.lora_zoo.test_kinds import read_one

Options = dict[str, Any]
LYCORIS: dict[str, tuple[type[nn.Module], Options]] = {
    "locon": (LoConModule, {}),
    "rslora": (LoConModule, {"rs_lora": True}),
    "tucker": (LoConModule, {"use_tucker": True}),
    "dora": (LoConModule, {"weight_decompose": True}),
    "dora-columns": (LoConModule, {"weight_decompose": True, "wd_on_out": False}),
    "loha": (LohaModule, {}),
    "loha-tucker": (LohaModule, {"use_tucker": True}),
    "loha-dora": (LohaModule, {"weight_decompose": True}),
    "lokr": (LokrModule, {"factor": 4}),
    "lokr-both": (LokrModule, {"factor": 4, "decompose_both": True, "lora_dim": 1}),
    "lokr-tucker": (LokrModule, {"factor": 2, "use_tucker": True}),
    "lokr-whole": (LokrModule, {"factor": 4, "full_matrix": True}),
    "lokr-dora": (LokrModule, {"factor": 4, "weight_decompose": True}),
    "oft": (DiagOFTModule, {"lora_dim": 4, "alpha": 0, "constraint": 0}),
    "oft-bounded": (DiagOFTModule, {"lora_dim": 4, "constraint": 0.1, "rescaled": True}),
    "boft": (ButterflyOFTModule, {"lora_dim": 4, "rescaled": True}),
    "glora": (GLoRAModule, {}),
    "ia3-in": (IA3Module, {"train_on_input": True}),
    "ia3-out": (IA3Module, {}),
}


def close(found: Tensor, wanted: Tensor) -> bool:
    return float((found - wanted).abs().max()) <= 2e-6 * max(1.0, float(wanted.abs().max()))


@pytest.mark.parametrize("convolution", [False, True])
@pytest.mark.parametrize("kind", LYCORIS)
def test_lycoris_adds_the_same_to_a_layers_output(kind: str, convolution: bool, tmp_path: Path) -> None:
    """Compared in use, as in training: LyCORIS 4.1 merges LoHa and LoKr with alpha / rank applied twice."""
    make, options = LYCORIS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.Conv2d(8, 16, 3, bias=False) if convolution else nn.Linear(8, 16, bias=False)
        weight, x = layer.weight.detach().clone(), torch.randn(2, 8, *[5] * (2 * convolution))
        module = make("x", layer, **({"multiplier": 1.0, "lora_dim": 2, "alpha": 3} | options)).eval()
        for parameter in module.parameters():
            parameter.data.uniform_(0.1, 0.9)
    parts = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
    shape = tuple(weight.shape)
    at = ModelLayout({"unet": {"conv_in": shape}}, lambda component, path: BaseLayer(weight, None))
    delta = read_one(tmp_path, parts, at).component("unet")["conv_in"].dense()
    before = layer(x)
    module.apply_to()  # pyright: ignore[reportCallIssue]
    apply = nn.functional.conv2d if convolution else nn.functional.linear
    assert close(apply(x, delta), (layer(x) - before).detach())
    assert bool(delta.any())


class Net(nn.Module):
    """Two linear layers and a convolution, of the shapes that the tuners differ on."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(8, 16, 3, padding=1, bias=False)
        self.to_q = nn.Linear(16, 8, bias=False)
        self.to_k = nn.Linear(8, 24, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.to_k(self.to_q(self.conv_in(x).mean((2, 3))))


BOTH, ALL = ["to_q", "to_k"], ["conv_in", "to_q", "to_k"]
ALPHAS: dict[str, Any] = {"alpha_pattern": {"to_k": 7}}
CONFIGS: dict[str, PeftConfig] = {
    "loha": LoHaConfig(r=2, alpha=3, target_modules=ALL, init_weights=False, **ALPHAS),
    "loha-tucker": LoHaConfig(r=2, alpha=3, target_modules=ALL, init_weights=False, use_effective_conv2d=True),
    "lokr": LoKrConfig(r=2, alpha=3, target_modules=ALL, init_weights=False, rank_pattern={"to_q": 3}, **ALPHAS),
    "lokr-both": LoKrConfig(r=1, alpha=3, target_modules=ALL, init_weights=False, decompose_both=True),
    "lokr-tucker": LoKrConfig(r=2, alpha=3, target_modules=ALL, init_weights=False, use_effective_conv2d=True),
    "oft": OFTConfig(r=0, oft_block_size=4, target_modules=ALL, init_weights=False, use_cayley_neumann=False),
    "oft-series": OFTConfig(r=0, oft_block_size=4, target_modules=ALL, init_weights=False, use_cayley_neumann=True),
    "oft-short": OFTConfig(
        r=0,
        oft_block_size=4,
        target_modules=BOTH,
        init_weights=False,
        use_cayley_neumann=True,
        num_cayley_neumann_terms=3,
    ),
    "oft-shared": OFTConfig(
        r=0, oft_block_size=4, target_modules=BOTH, init_weights=False, use_cayley_neumann=False, block_share=True
    ),
    "coft": OFTConfig(
        r=0, oft_block_size=4, target_modules=BOTH, init_weights=False, use_cayley_neumann=False, coft=True, eps=0.1
    ),
    "boft": BOFTConfig(boft_block_size=4, target_modules=ALL, init_weights=False),
    "boft-butterfly": BOFTConfig(boft_block_size=4, boft_n_butterfly_factor=2, target_modules=BOTH, init_weights=False),
    "ia3": IA3Config(target_modules=ALL, feedforward_modules=["to_q"], init_ia3_weights=False),
    "shira": ShiraConfig(r=2, target_modules=BOTH, init_weights=False),
    "dora": LoraConfig(r=2, lora_alpha=3, target_modules=ALL, init_lora_weights=False, use_dora=True),
    "rslora": LoraConfig(r=4, lora_alpha=3, target_modules=ALL, init_lora_weights=False, use_rslora=True),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_peft_merges_the_same_delta(kind: str, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Net()
        base = {path: part.get_parameter("weight").detach().clone() for path, part in net.named_children()}
        model = get_peft_model(net, CONFIGS[kind])  # pyright: ignore  # any module will do
        for name, parameter in model.named_parameters():
            if "ia3" in name or "magnitude" in name:
                parameter.data.uniform_(0.5, 1.5)
    model.save_pretrained(str(tmp_path))
    shapes = {path: tuple(weight.shape) for path, weight in base.items()}
    at = ModelLayout({"unet": shapes}, lambda component, path: BaseLayer(base[path], None))
    ours = formats.read(tmp_path, at).component("unet")
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.merge()  # pyright: ignore[reportCallIssue]
    tuned = {path: part for path, part in net.named_children() if isinstance(part, BaseTunerLayer)}
    assert ours.keys() == tuned.keys()
    for path, part in tuned.items():
        assert close(ours[path].dense(), part.get_base_layer().get_parameter("weight").detach() - base[path]), path
        assert bool(ours[path].dense().any())
