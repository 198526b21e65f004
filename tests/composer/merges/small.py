"""Small adapters for merges: unequal ranks, a layer that not all have, a convolution, a text encoder's layer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from composer.merges.cat import cat
from composer.merges.common import Weighted
from composer.merges.dare import dare, dare_ties
from composer.merges.knots import knots
from composer.merges.lego import lego
from composer.merges.linear import linear
from composer.merges.lora_soups import lora_soups
from composer.merges.magnitude import magnitude
from composer.merges.nplora import nplora
from composer.merges.opcm import opcm
from composer.merges.svd import svd
from composer.merges.ties import ties
from composer.merges.ziplora import ziplora
from lora_zoo.adapter import Adapter, Delta, DenseDelta, LowRank

Merge = Callable[[Sequence[Weighted]], Adapter]

#: Every merge, with parameters that make it do something.
MERGES: Mapping[str, Merge] = {
    "linear": linear,
    "cat": cat,
    "svd": lambda members: svd(members, 2),
    "magnitude": lambda members: magnitude(members, 0.5),
    "ties": lambda members: ties(members, 0.5),
    "ties frequency": lambda members: ties(members, 0.7, "frequency", 1.5),
    "dare": lambda members: dare(members, 0.5, 3),
    "dare_ties": lambda members: dare_ties(members, 0.5, 3),
    "knots": lambda members: knots(members, 0.6),
    "lego": lambda members: lego(members, 2),
    "opcm": opcm,
    "nplora": nplora,
    "lora_soups": lora_soups,
    "ziplora": ziplora,
}
ORDERED = ("opcm", "nplora")  # those in which the order of members has a meaning

SHAPES = {"unet": {"q": (6, 5), "k": (6, 4), "conv": (4, 3, 3, 3)}, "text_encoder": {"proj": (5, 5)}}


def low_rank(shape: Sequence[int], rank: int, seed: int) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    down = torch.randn(rank, *shape[1:], generator=generator)
    return LowRank(down, torch.randn(shape[0], rank, generator=generator))


def adapter(name: str, unet: Mapping[str, Delta], text: Mapping[str, Delta] | None = None) -> Adapter:
    layers = {"unet": unet, **({"text_encoder": text} if text else {})}
    return Adapter(name, hashlib.sha256(name.encode()).hexdigest(), layers)


def members() -> list[Weighted]:
    """Return three members: ranks 2, 3 and 1, weights 1, 0.5 and -0.8; only the first has a layer `k`."""
    shapes = SHAPES["unet"]
    text = SHAPES["text_encoder"]["proj"]
    first = adapter("first", {p: low_rank(s, 2, n) for n, (p, s) in enumerate(shapes.items())})
    second = adapter("second", {p: low_rank(shapes[p], 3, 11) for p in ("q", "conv")}, {"proj": low_rank(text, 3, 12)})
    third = adapter("third", {p: low_rank(shapes[p], 1, 21) for p in ("q", "conv")}, {"proj": low_rank(text, 1, 22)})
    return [Weighted(first, 1.0), Weighted(second, 0.5), Weighted(third, -0.8)]


def pair(first: Tensor, second: Tensor, weights: tuple[float, float] = (1.0, 1.0)) -> list[Weighted]:
    """Return two members of one layer, given whole."""
    both = [adapter("a", {"q": DenseDelta(first)}), adapter("b", {"q": DenseDelta(second)})]
    return [Weighted(one, weight) for one, weight in zip(both, weights, strict=True)]


def copies(delta: Delta, count: int) -> list[Weighted]:
    return [Weighted(adapter(f"copy{n}", {"q": delta}), 1.0) for n in range(count)]


def q(merged: Adapter) -> Tensor:
    """Return the one layer of `pair`, in double precision."""
    return merged.component("unet")["q"].dense().double()


def wide(merged: Adapter) -> dict[str, Tensor]:
    """Return all deltas whole, in double precision."""
    return {
        f"{component}.{path}": delta.dense().double()
        for component, paths in merged.layers.items()
        for path, delta in paths.items()
    }


def deltas(some: Sequence[Weighted], component: str, path: str) -> list[Tensor]:
    """Return w * delta of one layer, [out, in] in double precision; zeros where a member lacks it."""
    shape = SHAPES[component][path]
    found: list[Tensor] = []
    for one in some:
        delta = one.adapter.component(component).get(path)
        whole = torch.zeros(shape, dtype=torch.float64) if delta is None else product(delta).reshape(shape)
        found.append(one.weight * whole.flatten(1))
    return found


def product(delta: Delta) -> Tensor:
    if isinstance(delta, DenseDelta):
        return delta.delta.double()
    return torch.einsum("or,r...->o...", delta.up.double(), delta.down.double())


def close(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> bool:
    return a.shape == b.shape and bool((a.double() - b.double()).abs().max() <= tolerance)
