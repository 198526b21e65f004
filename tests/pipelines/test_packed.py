"""Packed convolutions against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from pipelines.packed import GroupedConv

GROUPS, INSIDE, OUTSIDE = 3, 8, 24
SHAPES = [(3, 1, 1), (3, 2, 1), (1, 1, 0)]  # kernel, stride, padding


def grouped(kernel: int, stride: int, padding: int) -> GroupedConv:
    torch.manual_seed(0)
    layer = nn.Conv2d(INSIDE, OUTSIDE, kernel, stride, padding)
    return GroupedConv(
        layer, GROUPS, torch.randn(GROUPS * OUTSIDE, INSIDE, kernel, kernel), torch.randn(GROUPS * OUTSIDE)
    )


def plain(one: GroupedConv, x: Tensor) -> Tensor:
    """Return what each group computes on its own, in double precision."""
    parts = zip(x.double().chunk(GROUPS, 1), one.weights.double().chunk(GROUPS), strict=True)
    outs = [F.conv2d(part, weight, None, one.layer.stride, one.layer.padding) for part, weight in parts]
    assert one.bias is not None
    return torch.cat(outs, 1) + one.bias.double()[:, None, None]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_few_pixels_and_many_are_the_same_sums(shape: tuple[int, int, int]) -> None:
    one = grouped(*shape)
    for size in (2, 3, 40, 2):  # also one size after another, and back
        x = torch.randn(2, GROUPS * INSIDE, size, size)
        with torch.no_grad():
            wanted = plain(one, x)
            assert (one(x).double() - wanted).abs().max() <= 2e-6 * wanted.abs().max()


def test_weights_are_packed_where_they_outweigh_the_pixels() -> None:
    one = grouped(3, 1, 1)
    with torch.no_grad():
        one(torch.randn(2, GROUPS * INSIDE, 40, 40))
        assert not one.packed
        one(torch.randn(2, GROUPS * INSIDE, 4, 4))
        assert bool(one.packed) == torch.backends.mkldnn.is_available()


def test_gradients_pass_through() -> None:
    one = grouped(3, 1, 1)
    x = torch.randn(1, GROUPS * INSIDE, 4, 4, requires_grad=True)
    one(x).square().sum().backward()
    found, x.grad = x.grad, None
    plain(one, x).square().sum().backward()
    assert found is not None and x.grad is not None
    assert torch.allclose(found, x.grad, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_packed_arithmetic_is_counted(shape: tuple[int, int, int]) -> None:
    one, x = grouped(*shape), torch.randn(2, GROUPS * INSIDE, 4, 4)
    with torch.no_grad(), FlopCounterMode(display=False) as packed:
        one(x)
    with FlopCounterMode(display=False) as usual:  # with gradients nothing is packed
        one(x)
    assert bool(one.packed) == torch.backends.mkldnn.is_available() or shape[0] == 1
    assert packed.get_total_flops() == usual.get_total_flops() > 0
