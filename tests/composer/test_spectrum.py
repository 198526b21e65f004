"""Frequency profiles against plain loops, and what is fine detail."""

from __future__ import annotations

import cmath
import math

import torch

from composer.spectrum import RINGS, frequency, profile


def test_rings_by_hand() -> None:
    picture = torch.rand(64, 64, generator=torch.Generator().manual_seed(1)) * 255
    rows = torch.fft.fft(picture.double(), dim=1).tolist()  # one axis by the library, the other by its definition
    sums = [[0.0, 0] for _ in range(RINGS)]
    for v in range(64):
        turns = [cmath.exp(-2j * math.pi * v * y / 64) for y in range(64)]
        for u in range(64):
            value = sum(rows[y][u] * turns[y] for y in range(64))
            down, across = (one if one < 32 else one - 64 for one in (v, u))
            ring = int(math.hypot(down, across))
            if ring < RINGS:
                sums[ring][0] += math.log(abs(value) + 1e-8)
                sums[ring][1] += 1
    wanted = [total / count for total, count in sums]
    wanted = [one / max(wanted) for one in wanted]
    assert max(abs(a - b) for a, b in zip(profile([picture]), wanted, strict=True)) < 1e-4


def test_fine_detail_counts() -> None:
    line = torch.arange(64.0)
    coarse = 127 + 100 * torch.sin(2 * math.pi * line / 32).expand(64, 64)
    noise = torch.rand(64, 64, generator=torch.Generator().manual_seed(2)) * 255
    assert frequency(profile([noise])) > frequency(profile([coarse + 0.05 * noise]))
    rings = [1.0] * 9 + [0.5] * 23
    assert frequency(rings) == 0.5 and max(profile([noise, coarse])) == 1.0


def test_other_sizes() -> None:
    assert len(profile([torch.rand(96, 128)])) == RINGS
