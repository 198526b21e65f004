"""LoRA-Composer's losses against plain loops in double precision, and latents that begin where they belong."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from composer.boxes import Boxes, Pulls, concept_loss, inside, leak_loss, moved
from composer.masks import Box
from composer.plan import Attention

PULLS = Pulls(8.0, 2.0, 10.0)


def random(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def smooth_by_hand(image: list[list[float]]) -> list[list[float]]:
    line = [math.exp(-(d**2) / (2 * 0.5**2)) for d in (-1, 0, 1)]
    line = [one / sum(line) for one in line]
    height, width = len(image), len(image[0])

    def at(y: int, x: int) -> float:
        y, x = abs(y), abs(x)
        return image[min(y, 2 * height - 2 - y)][min(x, 2 * width - 2 - x)]

    near = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return [
        [sum(line[dy + 1] * line[dx + 1] * at(y + dy, x + dx) for dy, dx in near) for x in range(width)]
        for y in range(height)
    ]


def test_a_concepts_loss_by_hand() -> None:
    maps = random(2, 6, 8, seed=1)
    top, bottom, left, right = 1, 5, 2, 8
    within = torch.zeros(6, 8)
    within[top:bottom, left:right] = 1.0
    cells = [(y, x) for y in range(top, bottom) for x in range(left, right)]
    count = int(0.2 * len(cells))
    bell = {
        (y, x): math.exp(-((-1 + 2 * (y - top) / 3) ** 2) / 2) * math.exp(-((-1 + 2 * (x - left) / 5) ** 2) / 2)
        for y, x in cells
    }
    vertical = max(math.exp(-((-1 + 2 * k / 3) ** 2) / 2) for k in range(4))  # no cell lies in the very middle
    most = vertical * max(math.exp(-((-1 + 2 * k / 5) ** 2) / 2) for k in range(6))
    wanted = 0.0
    for one in maps.double().tolist():
        read = smooth_by_hand(one)
        strong = sorted((read[y][x] * bell[y, x] / most for y, x in cells), reverse=True)[:count]
        wanted += 8.0 * max(0.0, 1.0 - sum(strong) / count)
        columns = [abs(max(read[y][x] for y in range(top, bottom)) - 1) if x >= left else 0.0 for x in range(8)]
        rows = [abs(max(read[y][x] for x in range(left, right)) - 1) if top <= y < bottom else 0.0 for y in range(6)]
        wanted += 2.0 * (sum(columns) / 8 + sum(rows) / 6)
    assert float(concept_loss(maps, within, PULLS)) == pytest.approx(wanted, rel=1e-5)


def test_what_leaks_by_hand() -> None:
    between = random(12, 12, seed=2).softmax(1)
    within = torch.zeros(3, 4)
    within[:2, :3] = 1.0
    own = [row * 4 + column for row in range(2) for column in range(3)]
    out = sorted((between[a, b].item() for a in own for b in range(12) if b not in own), reverse=True)
    assert float(leak_loss(between, within, PULLS)) == pytest.approx(10 * out[0], rel=1e-6)  # a fifth of six: one
    assert float(leak_loss(between, torch.ones(3, 4), PULLS)) == 0.0


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 9)])
def test_latents_move_and_keep_their_mean_and_spread(height: int, width: int) -> None:
    latents = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(4)) * 2 + 0.3
    rows, columns = -(-height // 2), -(-width // 2)
    maps = torch.zeros(1, rows, columns)
    maps[0, :2, :2] = 1.0
    within = torch.zeros(rows, columns)
    within[-2:, -2:] = 1.0
    found = moved(latents, [maps], [within])
    assert float(found.mean()) == pytest.approx(float(latents.mean()), abs=1e-5)
    assert float(found.std()) == pytest.approx(float(latents.std()), abs=1e-5)
    tall, wide = height - 2 * (rows - 2), width - 2 * (columns - 2)
    there, here = found[..., -tall:, -wide:], latents[..., :tall, :wide]
    stretch = (there - there.mean()) / (here - here.mean())
    assert float((stretch - stretch.mean()).abs().max()) < 1e-3  # the same patch but for the whole's mean and spread
    assert torch.allclose(
        moved(latents, [torch.ones(1, rows, columns)], [torch.ones(rows, columns)]), latents, atol=1e-5
    )


def test_cells_inside() -> None:
    maps = torch.zeros(1, 4, 4)
    assert inside(Box(0, 0, 0.4, 1), maps).sum() == 8  # the second column is 60 % inside
    assert inside(Box(0.3, 0.3, 0.35, 0.35), maps).nonzero().tolist() == [[1, 1]]  # smaller than a cell
    assert inside(Box(0.5, 0, 0.5, 1), maps).sum() == 0


def test_an_empty_mask_has_no_concept() -> None:
    told = Attention(random(3, 4, 4, seed=5), lambda words: (1,))
    told = Attention(told.maps, told.places, (told, told), random(16, 16, seed=6).softmax(1))
    empty = Box(0.5, 0, 0.5, 1)
    one, both = (Boxes([("a",), ("b",)], [Box(0, 0, 0.5, 1), mask], PULLS) for mask in (empty, Box(0.5, 0, 1, 1)))
    nothing = Boxes([("a",), ("b",)], [empty, empty], PULLS)
    assert 0.0 == float(nothing.loss(told)) < float(one.loss(told)) < float(both.loss(told))
    latents = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(7))
    assert torch.allclose(nothing.begun(latents, told), latents, atol=1e-6)
