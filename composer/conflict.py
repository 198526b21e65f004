"""How much two LoRAs will disturb each other, told from their factors: no model, no picture.

Two figures, for a layer or summed over the layers of a block, for deltas D1 and D2 at the weights w1 and w2:

overlap     whether they react to the same inputs: the cosine of their Gram matrices G = D^T D,
            tr(G1 G2) / (|G1| |G2|), from 0 (never the same input) to 1 (the same, in the same proportion);
            `chance` is what directions drawn at random would give, tr(G1) tr(G2) / (in |G1| |G2|)
cancelled   what becomes of their changes when they are added: 1 - |w1 D1 + w2 D2|^2 / (|w1 D1|^2 + |w2 D2|^2),
            1 if they undo each other, 0 if neither touches the other's, -1 if they are the same change twice

Norms are Frobenius'. All of it is traces of products of thin factors, in float64; a delta is never multiplied out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from composer.merges.common import Weighted, factored
from lora_zoo.adapter import Adapter, Delta

_BLOCK = re.compile(r"((?:down|up)_blocks\.\d+|mid_block|layers\.\d+)")
_STAGES = ("down_blocks", "mid_block", "up_blocks", "layers")

#: From these on a figure is spoken of; below, LoRAs are as good as strangers.
NOTABLE_OVERLAP = 0.3
NOTABLE_CANCELLED = 0.1


@dataclass(frozen=True)
class Conflict:
    """Two LoRAs in one block."""

    first: str
    second: str
    block: str
    layers: int  # that both change
    overlap: float
    chance: float
    cancelled: float

    @property
    def notable(self) -> bool:
        return self.overlap >= max(NOTABLE_OVERLAP, 2 * self.chance) or self.cancelled >= NOTABLE_CANCELLED

    def told(self) -> str:
        """Return it in words."""
        if not self.layers:
            return f"{self.first} and {self.second} change no layer of {self.block} together"
        verb = "fight" if self.cancelled >= NOTABLE_CANCELLED else "meet" if self.notable else "keep apart"
        fate = "cancels out" if self.cancelled >= 0 else "is doubled up"
        return (
            f"{self.first} and {self.second} {verb} in {self.block}: {self.overlap:.2f} overlap "
            f"({self.chance:.2f} by chance), {abs(self.cancelled):.0%} of their change {fate}"
        )


def block_of(component: str, path: str) -> str:
    """Return the name of the block that a layer lies in, or of its component for layers outside of any."""
    match = _BLOCK.search(path)
    return f"{component}.{match[1] if match else 'rest'}"


def place_of(block: str) -> tuple[str, int, int]:
    """Return what blocks are sorted by: along the way of a picture, or of a text, through the model."""
    component, _, name = block.partition(".")
    stage, _, number = name.partition(".")
    return component, _STAGES.index(stage) if stage in _STAGES else len(_STAGES), int(number or 0)


def conflicts(members: Sequence[Weighted]) -> list[Conflict]:
    """Return every pair's conflict in every block that both of them change, in the order of the blocks."""
    factors = [_factors(member.adapter) for member in members]
    found: list[Conflict] = []
    for place, first in enumerate(members):
        for other in range(place + 1, len(members)):
            pair = (first, members[other])
            found.extend(_of_pair(pair, factors[place], factors[other]))
    return found


@dataclass(frozen=True, eq=False)
class _Factor:
    """A delta as up @ down."""

    down: Tensor  # [rank, in], float64
    up: Tensor  # [out, rank]

    def inner(self, other: _Factor) -> float:
        """Return the scalar product of two deltas."""
        return float(((self.up.mT @ other.up) * (self.down @ other.down.mT)).sum())

    def gram_inner(self, other: _Factor) -> float:
        """Return the scalar product of D^T D of two deltas, which is the squared norm of D1 D2^T."""
        between = self.down @ other.down.mT
        return float(((self.up.mT @ self.up) @ between * (between @ (other.up.mT @ other.up))).sum())


_Layers = Mapping[tuple[str, str], _Factor]


def _factors(adapter: Adapter) -> dict[tuple[str, str], _Factor]:
    return {
        (component, path): _factor(delta)
        for component, deltas in adapter.layers.items()
        for path, delta in deltas.items()
    }


def _factor(delta: Delta) -> _Factor:
    thin = factored(delta)
    return _Factor(thin.down.flatten(1).double(), thin.up.double())


def _of_pair(pair: tuple[Weighted, Weighted], first: _Layers, second: _Layers) -> list[Conflict]:
    blocks: dict[str, list[tuple[str, str]]] = {}
    for layer in dict.fromkeys((*first, *second)):
        blocks.setdefault(block_of(*layer), []).append(layer)
    found: list[Conflict] = []
    for block in sorted(blocks, key=place_of):
        layers = blocks[block]
        ones = [first[layer] for layer in layers if layer in first]
        twos = [second[layer] for layer in layers if layer in second]
        both = [(first[layer], second[layer]) for layer in layers if layer in first and layer in second]
        if both:
            found.append(_conflict(pair, block, (ones, twos), both))
    return found


def _conflict(
    pair: tuple[Weighted, Weighted],
    block: str,
    alone: tuple[Sequence[_Factor], Sequence[_Factor]],
    both: Sequence[tuple[_Factor, _Factor]],
) -> Conflict:
    """Sum over a block, as if its layers were one: what a LoRA does where the other does nothing counts as well."""
    norms = [torch.tensor([one.gram_inner(one) for one in ones]).sum().sqrt().item() for ones in alone]
    energies = [
        sum(one.inner(one) for one in ones) * member.weight**2 for ones, member in zip(alone, pair, strict=True)
    ]
    scale, total = norms[0] * norms[1], sum(energies)
    met = sum(one.gram_inner(two) for one, two in both)
    random = sum(one.inner(one) * two.inner(two) / one.down.shape[1] for one, two in both)
    common = 2 * pair[0].weight * pair[1].weight * sum(one.inner(two) for one, two in both)
    return Conflict(
        first=pair[0].adapter.name,
        second=pair[1].adapter.name,
        block=block,
        layers=len(both),
        overlap=met / scale if scale else 0.0,
        chance=random / scale if scale else 0.0,
        cancelled=-common / total if total else 0.0,
    )
