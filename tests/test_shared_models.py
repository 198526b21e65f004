"""What guards the shared models notices each way in which a test can leave one changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from pipelines import specs
from pipelines.model import LoadedModel
from tests import shared_models


def write(module: nn.Module) -> Callable[[], object]:
    weight = next(module.parameters())
    with torch.no_grad():
        weight.add_(0.0)
    return lambda: None


def hook(module: nn.Module) -> Callable[[], object]:
    return module.register_forward_hook(lambda *_: None).remove


def front(module: nn.Module) -> Callable[[], object]:
    vars(module)["forward"] = module.forward
    return lambda: vars(module).pop("forward")


def train(module: nn.Module) -> Callable[[], object]:
    module.train()
    return module.eval


def want_gradients(module: nn.Module) -> Callable[[], object]:
    module.requires_grad_(True)
    return lambda: module.requires_grad_(False)


def other_precision(module: nn.Module) -> Callable[[], object]:
    torch.set_default_dtype(torch.float64)
    return lambda: torch.set_default_dtype(torch.float32)


def test_a_model_left_alone_is_unchanged(small: LoadedModel) -> None:
    with shared_models.unchanged({"small": small}):
        pass


@pytest.mark.parametrize("spoil", [write, hook, front, train, want_gradients, other_precision])
def test_a_change_is_noticed(spoil: Callable[[nn.Module], Callable[[], object]], small_folder: Path) -> None:
    own = LoadedModel.load(specs.find(str(small_folder)), torch.device("cpu"))
    mends: list[Callable[[], object]] = []
    with pytest.raises(AssertionError), shared_models.unchanged({"own": own}):
        mends.append(spoil(own.unet.get_submodule("mid_block")))
    for mend in mends:
        mend()
