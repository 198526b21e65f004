"""Kinds that state every number they change: whole deltas, and SHiRA's few scattered ones."""

from __future__ import annotations

import torch

from lora_zoo.adapter import DenseDelta
from lora_zoo.kinds.common import Layer, Misfit, fit


def full(layer: Layer) -> DenseDelta:
    """Take a delta as it is; an alpha beside it means nothing, for there is no rank."""
    return DenseDelta(fit("diff", layer.parts["weight"], layer.shape))


def shira(layer: Layer) -> DenseDelta:
    """Put SHiRA's values in their places, given as rows and columns. Places named twice count twice, as in PEFT."""
    values, stated = layer.parts["values"], layer.parts["indices"]
    indices = stated.long()  # some systems save them as floating-point numbers
    if len(layer.shape) != 2 or values.dim() != 1 or indices.shape != (2, len(values)):
        raise Misfit(f"values {list(values.shape)}, indices {list(indices.shape)} do not fit {list(layer.shape)}")
    if bool((indices != stated).any()):
        raise Misfit("indices are not whole numbers")
    if bool((indices < 0).any()) or bool((indices >= torch.tensor(layer.shape)[:, None]).any()):
        raise Misfit(f"indices lie outside a weight of {list(layer.shape)}")
    return DenseDelta(torch.zeros(layer.shape).index_put((indices[0], indices[1]), values, accumulate=True))
