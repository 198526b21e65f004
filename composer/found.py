"""Masks found in attention maps: whose each place is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from composer.masks import Drawn
from composer.plan import Attention

_NOTHING = 1e-12  # a token that is read less than that is not read
_SIGMA = 0.85  # of the smoothing that masks are found with: half of a cell's weight at its neighbour


def smoothed(maps: Tensor, sigma: float = _SIGMA) -> Tensor:
    """Return maps [n, h, w] smoothed by a Gaussian over 3x3 cells, mirrored at the edges."""
    line = torch.exp(-torch.tensor([1.0, 0.0, 1.0]) / (2 * sigma**2)).to(maps)
    kernel = (line[:, None] * line) / line.sum() ** 2
    padded = F.pad(maps[:, None], (1, 1, 1, 1), mode="reflect" if min(maps.shape[-2:]) > 1 else "replicate")
    return F.conv2d(padded, kernel[None, None])[:, 0]


def mean_spread(maps: Tensor) -> Tensor:
    """Return the mean of tokens' maps [n, h, w], each spread over places so that it sums to 1, [h, w].

    A token that is read everywhere does not drown one that is read at its thing.
    """
    floats = maps.float()
    return (floats / floats.sum((1, 2), keepdim=True).clamp(min=_NOTHING)).mean(0)


def claims(concepts: Sequence[Tensor], threshold: float, parted: bool) -> list[Tensor]:
    """Return where each concept is, by its tokens' maps [n, h, w] each: masks [h, w] of 0 and 1.

    That is where any of its maps is above a share of its greatest value. `parted`: where the smoothed mean of its maps
    is, and a cell further on each side, and of several concepts there the one that is read most: maps of the embedded
    model peak at parts of a thing, and some words are read everywhere, so that masks have holes or hold everything.
    """
    if not parted:
        return [over(one, threshold) for one in concepts]
    maps = smoothed(torch.stack([mean_spread(one) for one in concepts]))
    masks = torch.stack([over(one[None], threshold) for one in maps])
    grown = F.max_pool2d(masks[:, None], 3, 1, 1)[:, 0]
    first = maps.masked_fill(grown == 0, -1.0).argmax(0)
    return [grown[place] * (first == place) for place in range(len(maps))]


def over(maps: Tensor, threshold: float) -> Tensor:
    """Return where any of n maps [n, h, w] is above a share of its own greatest value, 0 or 1, [h, w]."""
    return (maps > threshold * maps.amax((1, 2), keepdim=True)).any(0).float()


def with_rest(masks: Sequence[Tensor], height: int, width: int) -> Tensor:
    """Return masks [h, w] at another size by nearest neighbour, and before them where none is: [1 + n, h', w']."""
    grown = F.interpolate(torch.stack(list(masks))[None], (height, width), mode="nearest")[0]
    return torch.cat([1.0 - grown.amax(0, keepdim=True), grown])


def shown(names: Sequence[str], masks: Iterable[Tensor], concepts: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return masks and the maps that they come from as findings: the mean of a concept's maps, 1 where it is most."""
    means = [mean_spread(one) for one in concepts]
    maps = {
        f"attention to {name}": mean / mean.max().clamp(min=_NOTHING) for name, mean in zip(names, means, strict=True)
    }
    return {f"mask of {name}": mask for name, mask in zip(names, masks, strict=True)} | maps


def drawn(mask: Tensor) -> Drawn:
    """Return a mask [h, w] in 0 to 1 as a value."""
    cells = mask.clamp(0, 1).mul(255).round().to("cpu", torch.uint8)
    return Drawn(mask.shape[0], mask.shape[1], cells.numpy().tobytes())


@dataclass(frozen=True)
class Search:
    """How masks are found in attention."""

    top: float = 0.1  # share of places that stand for a concept
    likeness: bool = False  # a place is of the concept whose anchors it resembles, not of the one it reads most
    gravity: float = 1.0  # towards its anchors' centre, of the scores' range; the picture's sides are at -1 and 1


def owned(told: Attention, words: Sequence[tuple[str, ...]], how: Search) -> Tensor:
    """Return whose each place is, as masks [n, h, w] of 0 and 1 that sum to 1, by what one pass tells."""
    maps = contested([smoothed(torch.cat([told.of(word) for word in own]).float()) for own in words])
    places = anchors(maps, how.top)
    scores = maps
    if how.likeness:
        if told.alike is None:
            raise ValueError("the pass did not tell how places resemble each other")
        scores = resembling(maps, told.alike, places)
    return shared_out(_between(scores, (1, 2)) - how.gravity * away_from(places, *maps.shape[1:]), Sharing())


def contested(maps: Sequence[Tensor]) -> Tensor:
    """Return where each concept is read more than the others, [n, h, w]: FreeFuse (arXiv:2510.23515).

    maps are the attention to each concept's tokens, [tokens, h, w]; S_c is the mean of its tokens', each spread to a
    sum of 1. A concept's map is n S_c - sum of the others' S.
    """
    spread = torch.stack([mean_spread(one) for one in maps])
    return (len(maps) + 1) * spread - spread.sum(0)


def anchors(contest: Tensor, top: float) -> Tensor:
    """Return the `top` share of places, one at least, at which each concept is most itself, [n, anchors]."""
    flat = contest.flatten(1)
    return flat.topk(max(1, int(top * flat.shape[1])), dim=1).indices


def away_from(places: Tensor, height: int, width: int) -> Tensor:
    """Return each place's squared distance from the centre of each concept's anchors, [n, h, w]; sides are -1 and 1."""
    rows, columns = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
    across = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).to(places.device)  # [2, h, w]
    centres = across.flatten(1)[:, places].mean(2).T  # [n, 2]
    return (across - centres[:, :, None, None]).square().sum(1)


def resembling(contest: Tensor, alike: Tensor, places: Tensor) -> Tensor:
    """Return how much each place is like each concept's anchors, in the mean, [n, h, w].

    contest is what `contested` returns, alike the inner products of places' features, [h * w, h * w].
    """
    return alike.float()[places].mean(1).reshape(contest.shape)


@dataclass(frozen=True)
class Sharing:
    """How places are shared out: rounds, and the authors' constants."""

    rounds: int = 15
    rate: float = 0.01  # of the greatest score, by which a concept is held back in a round
    slowing: float = 0.95
    momentum: float = 0.2
    votes: float = 2e-5  # of the 8 places around


def shared_out(scores: Tensor, how: Sharing) -> Tensor:
    """Return whose each place is, as masks [n, h, w] of 0 and 1 that sum to 1.

    Each is given to the highest score, where concepts with more than their share of places are held back round by
    round, and a place is drawn to what is around it. What is held back counts once; in the authors' code it counts
    twice while sizes are taken, so that they stay uneven.
    """
    count, height, width = scores.shape
    around = torch.ones(count, 1, 3, 3).to(scores) / 8
    around[:, :, 1, 1] = 0
    held = torch.zeros(count, 1, 1).to(scores)
    step = how.rate * (scores.max() - scores.min()).clamp(min=1e-4)
    smooth, now = _between(scores, (1, 2)), scores
    for turn in range(how.rounds):
        smooth = (1 - how.momentum) * _between(now, (0,)) + how.momentum * smooth
        sizes = F.one_hot(now.argmax(0).flatten(), count).sum(0)
        held = held + torch.sign(sizes - height * width / count)[:, None, None] * step * how.slowing**turn
        votes = F.conv2d(smooth[None], around, padding=1, groups=count)[0]
        now = scores - held + how.votes * votes
    return torch.stack([now.argmax(0) == place for place in range(count)]).to(scores)


def _between(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Return a tensor from 0 at its least along these dimensions to 1 at its greatest."""
    least, most = x.amin(dims, keepdim=True), x.amax(dims, keepdim=True)
    return (x - least) / (most - least + 1e-8)
