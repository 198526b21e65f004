"""Masks found in attention maps: whose each place is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from composer.masks import Drawn
from composer.plan import Attention

_NOTHING = 1e-12  # a token that is read less than that is not read


def over(maps: Tensor, threshold: float) -> Tensor:
    """Return where any of n maps [n, h, w] is above a share of its own greatest value, 0 or 1, [h, w]."""
    return (maps > threshold * maps.amax((1, 2), keepdim=True)).any(0).float()


def with_rest(masks: Sequence[Tensor], height: int, width: int) -> Tensor:
    """Return masks [h, w] at another size by nearest neighbour, and before them where none is: [1 + n, h', w']."""
    grown = F.interpolate(torch.stack(list(masks))[None], (height, width), mode="nearest")[0]
    return torch.cat([1.0 - grown.amax(0, keepdim=True), grown])


def drawn(mask: Tensor) -> Drawn:
    """Return a mask [h, w] in 0 to 1 as a value."""
    cells = mask.clamp(0, 1).mul(255).round().to("cpu", torch.uint8)
    return Drawn(mask.shape[0], mask.shape[1], cells.numpy().tobytes())


@dataclass(frozen=True)
class Search:
    """How masks are found in attention."""

    top: float = 0.1  # share of places that stand for a concept
    likeness: bool = False  # a place is of the concept whose anchors it resembles, not of the one it reads most
    gravity: float = 0.3  # towards a concept's own centre, of the scores' range; the picture's sides are at -1 and 1


def owned(told: Attention, words: Sequence[tuple[str, ...]], how: Search) -> Tensor:
    """Return whose each place is, as masks [n, h, w] of 0 and 1 that sum to 1, by what one pass tells."""
    maps = contested([torch.cat([told.of(word) for word in own]) for own in words])
    if how.likeness:
        if told.alike is None:
            raise ValueError("the pass did not tell how places resemble each other")
        maps = resembling(maps, told.alike, how.top)
    return shared_out(_between(maps, (1, 2)), Sharing(gravity=how.gravity))


def contested(maps: Sequence[Tensor]) -> Tensor:
    """Return where each concept is read more than the others, [n, h, w]: FreeFuse (arXiv:2510.23515).

    maps are the attention to each concept's tokens, [tokens, h, w]. S_c is the mean of its tokens' maps, each of which
    is spread over places so that it sums to 1: a token that is read everywhere does not drown one that is read at its
    thing. A concept's map is n S_c - sum of the others' S.
    """
    floats = [one.float() for one in maps]
    spread = torch.stack([(one / one.sum((1, 2), keepdim=True).clamp(min=_NOTHING)).mean(0) for one in floats])
    return (len(maps) + 1) * spread - spread.sum(0)


def resembling(contest: Tensor, alike: Tensor, top: float) -> Tensor:
    """Return how much each place is like each concept's anchors, in the mean, [n, h, w].

    contest is what `contested` returns, alike the inner products of places' features, [h * w, h * w]. The `top` share
    of places at which a concept is most itself, one at least, are its anchors.
    """
    flat = contest.flatten(1)
    anchors = flat.topk(max(1, int(top * flat.shape[1])), dim=1).indices  # [n, anchors]
    return alike.float()[anchors].mean(1).reshape(contest.shape)


@dataclass(frozen=True)
class Sharing:
    """How places are shared out: rounds, and the authors' constants."""

    rounds: int = 15
    rate: float = 0.01  # of the greatest score, by which a concept is held back in a round
    slowing: float = 0.95
    momentum: float = 0.2
    gravity: float = 0.3  # towards a concept's own centre
    votes: float = 2e-5  # of the 8 places around


def shared_out(scores: Tensor, how: Sharing) -> Tensor:
    """Return whose each place is, as masks [n, h, w] of 0 and 1 that sum to 1.

    Each is given to the highest score, where concepts with more than their share of places are held back round by
    round, and a place is drawn to its concept's centre and to what is around it. What is held back counts once; in
    the authors' code it counts twice while sizes are taken, so that they stay uneven.
    """
    count, height, width = scores.shape
    rows, columns = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
    across = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).to(scores)  # [2, h, w]
    around = torch.ones(count, 1, 3, 3).to(scores) / 8
    around[:, :, 1, 1] = 0
    held = torch.zeros(count, 1, 1).to(scores)
    step = how.rate * (scores.max() - scores.min()).clamp(min=1e-4)
    smooth, now = _between(scores, (1, 2)), scores
    for turn in range(how.rounds):
        smooth = (1 - how.momentum) * _between(now, (0,)) + how.momentum * smooth
        centres = (smooth[:, None] * across).sum((2, 3)) / (smooth.sum((1, 2)) + 1e-6)[:, None]  # [n, 2]
        away = (across - centres[:, :, None, None]).square().sum(1)
        sizes = F.one_hot(now.argmax(0).flatten(), count).sum(0)
        held = held + torch.sign(sizes - height * width / count)[:, None, None] * step * how.slowing**turn
        votes = F.conv2d(smooth[None], around, padding=1, groups=count)[0]
        now = scores - held + how.votes * votes - how.gravity * away
    return torch.stack([now.argmax(0) == place for place in range(count)]).to(scores)


def _between(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Return a tensor from 0 at its least along these dimensions to 1 at its greatest."""
    least, most = x.amin(dims, keepdim=True), x.amax(dims, keepdim=True)
    return (x - least) / (most - least + 1e-8)
