"""Attention maps set against each other: those of one concept are to agree, those of different ones to differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from composer.plan import Attention
from composer.words import found

_FLAT = 1e-8  # a map that varies less has no shape


def normalised(maps: Tensor) -> Tensor:
    """Return each of n maps [n, h, w] from 0 at its least to 1 at its greatest; a flat one is 0 throughout."""
    least, most = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - least) / (most - least).clamp(min=_FLAT)


def contrastive(groups: Sequence[Tensor], temperature: float) -> Tensor:
    """Return NT-Xent (InfoNCE) of maps in groups, [n, h, w] each, over cosines of normalised maps.

    The mean, over pairs (a, p) within groups, of -log(e_ap / (e_ap + sum_n e_an)), e_xy = exp(cos(x, y) / temperature)
    and n the maps of other groups. Without a pair it is 0.
    """
    vectors = F.normalize(torch.cat([normalised(maps.float()) for maps in groups]).flatten(1), dim=1)
    owner = torch.cat([torch.full((len(maps),), place) for place, maps in enumerate(groups)]).to(vectors.device)
    same = owner[:, None] == owner[None, :]
    pairs = same & ~torch.eye(len(owner), dtype=torch.bool, device=owner.device)
    if not bool(pairs.any()):
        return vectors.sum() * 0.0
    scores = vectors @ vectors.mT / temperature
    negatives = scores.masked_fill(same, -torch.inf).logsumexp(1, keepdim=True)  # [maps, 1]
    losses = torch.logaddexp(scores, negatives.expand_as(scores)) - scores
    return losses[pairs].mean()


@dataclass(frozen=True)
class Concepts:
    """Texts that say concepts: one for nobody, then one for each concept's owner."""

    texts: Sequence[str]
    owners: Sequence[tuple[str, ...]]  # the words of each concept

    def groups(self, told: Sequence[Attention]) -> list[Tensor]:
        """Return each concept's maps in all texts, [n, h, w] each."""
        return [
            torch.cat([_maps(one, text, words) for one, text in zip(told, self.texts, strict=True)])
            for words in self.owners
        ]

    def own(self, told: Sequence[Attention]) -> list[Tensor]:
        """Return each concept's maps in its owner's text, [n, h, w] each; `told` leaves out the text for nobody."""
        both = zip(told, self.texts[1:], self.owners, strict=True)
        return [_maps(one, text, words) for one, text, words in both]


def _maps(told: Attention, text: str, words: tuple[str, ...]) -> Tensor:
    return torch.cat([told.of(word) for word in found(text, words)])
