"""Convolutions of several rows' own weights at once, their weights laid out beforehand as the processor reads them.

PyTorch has oneDNN rearrange a convolution's weights anew in every call. Where a layer's weights outweigh its pixels,
and with a weight for each row they do, that takes as long as the products. oneDNN also takes weights that it has
rearranged once (PyTorch's compiler freezes models so). Measured with five rows' weights on `tiny`'s layers, this takes
0.35 to 0.97 of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula


@dataclass(frozen=True, eq=False, slots=True)
class GroupedConv:
    """What a convolution layer computes with other weights, as many times as there are groups."""

    layer: nn.Conv2d
    groups: int
    weights: Tensor  # [groups * out, in, kh, kw]
    bias: Tensor | None = None  # [groups * out]
    packed: dict[tuple[int, ...], Tensor] = field(default_factory=dict[tuple[int, ...], Tensor])  # by the input's shape

    @property
    def bytes(self) -> int:
        """Return what it holds, or will."""
        size = self.weights.numel() * self.weights.element_size()
        return 2 * size if self._may_pack else size

    def __call__(self, x: Tensor) -> Tensor:
        """Return [rows, groups * out, h', w'] of [rows, groups * in, h, w]."""
        if self._may_pack and self._pays(x) and not torch.is_grad_enabled():
            return self._packed(x)
        layer = self.layer
        return F.conv2d(x, self.weights, self.bias, layer.stride, layer.padding, layer.dilation, self.groups)

    @property
    def _may_pack(self) -> bool:
        known = self.weights.device.type == "cpu" and self.weights.dtype == torch.float32
        return known and torch.backends.mkldnn.is_available() and not isinstance(self.layer.padding, str)

    def _pays(self, x: Tensor) -> bool:
        """Tell whether weights outweigh pixels; where they do not, oneDNN's own layout of pixels costs more."""
        height, width = x.shape[-2:]
        outputs = self.weights.shape[0] // self.groups * self.weights[0, 0].numel()
        return height * width * 2 <= outputs

    def _packed(self, x: Tensor) -> Tensor:
        layer, shape = self.layer, tuple(x.shape)
        how = list(cast("tuple[int, int]", layer.padding)), list(layer.stride), list(layer.dilation), self.groups
        if shape not in self.packed:
            self.packed.clear()  # what is held is counted for one shape
            self.packed[shape] = torch.ops.mkldnn._reorder_convolution_weight(self.weights, *how, list(shape))
        return torch.ops.mkldnn._convolution_pointwise(x, self.packed[shape], self.bias, *how, "none", [], "")


def _arithmetic(_x: object, weights: Sequence[int], *_how: object, out_shape: Sequence[int], **_more: object) -> int:
    """Return the multiplications and additions of a packed convolution, counted as those of others are."""
    return 2 * out_shape[0] * prod(out_shape[2:]) * prod(weights)


if torch.backends.mkldnn.is_available():  # torch's counter would take what it does not know for nothing
    register_flop_formula(torch.ops.mkldnn._convolution_pointwise)(_arithmetic)
