"""The kinds of adapter that PEFT itself reads for us: what they add to a layer's output, in use, is our delta."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft import PeftConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lora_zoo import formats
from lora_zoo.adapter import BaseLayer, ModelLayout
from lora_zoo.errors import BadFile, UnsupportedKind
from lora_zoo.fit import fit

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


class Net(nn.Module):
    """Linear layers of two shapes, as attention has them."""

    def __init__(self) -> None:
        super().__init__()
        self.to_q = nn.Linear(16, 8)
        self.to_k = nn.Linear(8, 16, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.to_k(self.to_q(x))


TARGETS = ["to_q", "to_k"]
#: Kind -> PEFT's configuration of it; what it takes to be no adapter that does nothing, `stirred` sees to.
KINDS: dict[str, Callable[[], PeftConfig]] = {
    "adalora": lambda: peft.AdaLoraConfig(init_r=4, target_r=2, total_step=9, target_modules=TARGETS),
    "c3a": lambda: peft.C3AConfig(block_size=4, target_modules=TARGETS),
    "delora": lambda: peft.DeloraConfig(r=2, target_modules=TARGETS),
    "fourierft": lambda: peft.FourierFTConfig(n_frequency=20, target_modules=TARGETS),
    "gralora": lambda: peft.GraloraConfig(r=4, gralora_k=2, target_modules=TARGETS),
    "lora-all-biases": lambda: peft.LoraConfig(r=2, lora_alpha=3, bias="all", target_modules=TARGETS),
    "lora-bias-of-up": lambda: peft.LoraConfig(r=2, lora_alpha=3, lora_bias=True, target_modules=["to_q"]),
    "olora": lambda: peft.LoraConfig(r=2, lora_alpha=3, init_lora_weights="olora", target_modules=TARGETS),
    "pissa": lambda: peft.LoraConfig(r=2, lora_alpha=3, init_lora_weights="pissa", target_modules=TARGETS),
    "hra": lambda: peft.HRAConfig(r=2, target_modules=TARGETS),
    "miss": lambda: peft.MissConfig(r=2, target_modules=TARGETS),
    "randlora": lambda: peft.RandLoraConfig(r=2, target_modules=TARGETS),
    "road": lambda: peft.RoadConfig(group_size=8, target_modules=TARGETS),
    "vblora": lambda: peft.VBLoRAConfig(r=2, num_vectors=6, vector_length=4, topk=2, target_modules=TARGETS),
    "vera": lambda: peft.VeraConfig(r=4, target_modules=TARGETS),
    "vera-drawn": lambda: peft.VeraConfig(r=4, target_modules=TARGETS, save_projection=False),
}


def trained(kind: str, folder: Path) -> tuple[ModelLayout, nn.Module]:
    """Save an adapter of a kind as PEFT does; return the bare model's layout, and the model with the adapter on."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Net()
        base = {
            name: BaseLayer(one.weight.detach().clone(), None if one.bias is None else one.bias.detach().clone())
            for name, one in net.named_children()
            if isinstance(one, nn.Linear)
        }
        model = get_peft_model(net, KINDS[kind]())  # pyright: ignore[reportArgumentType]  # any module will do
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data.uniform_(0.1, 0.6)
    model.save_pretrained(str(folder))
    shapes = {name: tuple(one.weight.shape) for name, one in base.items()}
    vectors = {f"{name}.bias": tuple(one.bias.shape) for name, one in base.items() if one.bias is not None}
    layout = ModelLayout({"unet": shapes}, lambda component, path: base[path], {"unet": vectors})
    return layout, model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_in_use_does_what_is_read(kind: str, tmp_path: Path) -> None:
    layout, model = trained(kind, tmp_path)
    state = torch.get_rng_state()
    adapter = formats.read(tmp_path, layout)
    assert torch.equal(torch.get_rng_state(), state)
    x = {"to_q": torch.randn(5, 16), "to_k": torch.randn(5, 8)}
    tuned = {
        name.rpartition(".")[2]: one
        for name, one in model.named_modules()
        if isinstance(one, BaseTunerLayer) and name.rpartition(".")[2] in x
    }
    assert adapter.component("unet").keys() == tuned.keys()
    for path, layer in tuned.items():
        base, delta = layout.base("unet", path), adapter.component("unet")[path].dense()
        shift = adapter.vectors.get("unet", {}).get(f"{path}.bias", torch.zeros(len(delta)))
        bias = shift if base.bias is None else base.bias + shift
        wanted = layer(x[path]).detach()  # type: ignore[operator]
        off = (nn.functional.linear(x[path], base.weight + delta, bias) - wanted).abs().max()
        assert float(off) <= 1e-5 * max(1.0, float(wanted.abs().max()))
        assert bool(delta.abs().max() > 1e-3)


def test_it_is_described_and_fits(tmp_path: Path) -> None:
    layout, _ = trained("vera", tmp_path)
    info = formats.describe(tmp_path)
    assert (info.dialect, info.kind, info.modules, info.ranks) == ("peft", "vera", 2, None)
    found = fit(tmp_path, layout)
    assert found.fits
    assert [(one.matched, one.total, one.kinds) for one in found.components] == [(2, 2, ("vera",))]


def test_without_a_model_it_is_not_read(tmp_path: Path) -> None:
    layout, _ = trained("vera", tmp_path)
    with pytest.raises(UnsupportedKind, match="relative to the model's weights"):
        formats.read(tmp_path, dict(layout))


Change = Callable[[dict[str, Tensor], dict[str, Any]], object]
KEY = "base_model.model.to_q.vera_lambda_b"
BROKEN: dict[str, tuple[Change, str]] = {
    "a tensor missing": (lambda t, c: t.pop(KEY), "tensors that are missing: .*to_q.vera_lambda_b"),
    "one too many": (lambda t, c: t.update({"base_model.model.to_q.x": torch.ones(1)}), "belong to nothing: .*to_q.x"),
    "a layer that is not there": (
        lambda t, c: t.update({"base_model.model.to_v.vera_lambda_b": torch.ones(8)}),
        "belong to nothing: .*to_v",
    ),
    "not a number": (lambda t, c: t[KEY].fill_(torch.nan), "not finite"),
    "absurdly large": (lambda t, c: t[KEY].fill_(1e30), r"holds 1e\+30"),
    "another shape": (lambda t, c: t.update({KEY: torch.ones(9)}), "kind vera: .*to_q"),
    "an unknown field": (lambda t, c: c.update(power=3), "kind vera: .*power"),
    "a rank beyond reason": (lambda t, c: c.update(r=10**12), "r is 1000000000000; 65536 is the largest"),
    "whole modules": (lambda t, c: c.update(modules_to_save=["to_v"]), "modules_to_save"),
    "a kind that changes no weights": (lambda t, c: c.update(peft_type="PROMPT_TUNING"), "kind prompt_tuning"),
    "a kind that PEFT has not": (lambda t, c: c.update(peft_type="X"), "kind x"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_does_not_add_up_is_refused(case: str, tmp_path: Path) -> None:
    layout, _ = trained("vera", tmp_path)
    change, told = BROKEN[case]
    tensors, config = load_file(tmp_path / WEIGHTS), json.loads((tmp_path / CONFIG).read_text())
    change(tensors, config)
    save_file(tensors, tmp_path / WEIGHTS)
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(BadFile, match=told):
        formats.read(tmp_path, layout)
