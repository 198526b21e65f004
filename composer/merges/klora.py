"""K-LoRA (arXiv:2502.18461): in each layer and step the one LoRA acts whose greatest entries weigh more.

S_i = sum of the K greatest |entries| of delta_i, K = r_c * r_s. Content acts where S_c / gamma > scale * S_s, else
style; gamma = mean over layers of |delta_c|_1 / |delta_s|_1, taken again without ratios of 3 means or more, so that
nobody's overall strength decides. scale rises with the steps: content early, style late.
What a layer's S are depends on the LoRAs only: layers are ranked once, and a step is a comparison of two numbers each.
Deviations from the authors' code: all layers that a LoRA changes are ranked and count in gamma, convolutions and
feed-forward too, where theirs knows attention's q, k, v and out only; alpha / rank counts; layers are paired by path,
not by order in the file; a layer that one LoRA lacks is the other's; the step is the true one, where theirs is a count
of layer calls since the program started, right for 50 steps of one picture only. With more than two LoRAs each other
one is put on the style's level by a gamma of its own, the greatest acts, and K is the product of the layer's two
greatest ranks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from composer.merges.common import Part, Weighted, parts_by_layer, rank_of
from lora_zoo.adapter import Delta

_COMPONENT = "unet"
_OUTLIER = 3.0  # ratios of this many means are left out of gamma


@dataclass(frozen=True, eq=False)
class Contender:
    """One LoRA in one layer."""

    member: int
    delta: Delta  # its weight folded in
    score: float  # S / gamma


#: Layer -> who could act there, the style last.
Ranking = Mapping[str, Sequence[Contender]]


def rank_layers(members: Sequence[Weighted], style: int) -> Ranking:
    """Score every member in every layer of the UNet; `style` is the place of the one that comes late."""
    layers = parts_by_layer(members).get(_COMPONENT, {})
    measured = {path: {part.member: _measure(part, parts) for part in parts} for path, parts in layers.items()}
    gammas = {member: _gamma(measured.values(), member, style) for member in range(len(members)) if member != style}
    return {
        path: [
            Contender(part.member, part.delta, measured[path][part.member].top / gammas.get(part.member, 1.0))
            for part in sorted(parts, key=lambda part: part.member == style)
        ]
        for path, parts in layers.items()
    }


def choose(ranking: Ranking, style: int, scale: float) -> dict[str, Delta]:
    """Return each layer's winner at one scale; a tie is the style's."""

    def standing(one: Contender) -> tuple[float, bool]:
        return (one.score * scale, True) if one.member == style else (one.score, False)

    return {path: max(contenders, key=standing).delta for path, contenders in ranking.items()}


@dataclass(frozen=True)
class _Measured:
    top: float  # sum of the K greatest |entries|
    total: float  # of all


def _measure(part: Part, parts: Sequence[Part]) -> _Measured:
    ranks = sorted((rank_of(other.delta) for other in parts), reverse=True)
    entries = part.delta.dense().abs().flatten()
    greatest = ranks[0] * ranks[min(1, len(ranks) - 1)]
    top = entries.topk(min(greatest, entries.numel()), sorted=False).values
    return _Measured(float(top.double().sum()), float(entries.double().sum()))


def _gamma(layers: Iterable[Mapping[int, _Measured]], member: int, style: int) -> float:
    """Return how much stronger a member is than the style; 1 if no layer can tell."""
    both = [layer for layer in layers if member in layer and style in layer and layer[style].total]
    ratios = [layer[member].total / layer[style].total for layer in both]
    if not any(ratios):
        return 1.0
    limit = _OUTLIER * sum(ratios) / len(ratios)
    kept = [ratio for ratio in ratios if ratio < limit]
    return sum(kept) / len(kept)
