"""Masks by hand, and what they promise at any size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from composer.masks import Box, Drawn, Mask, Rest, shares

SIZES = st.integers(1, 9)
FRACTIONS = st.floats(0, 1, width=32)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    left, right = sorted((draw(FRACTIONS), draw(FRACTIONS)))
    top, bottom = sorted((draw(FRACTIONS), draw(FRACTIONS)))
    return Box(left, top, right, bottom)


def test_a_box_covers_cells_in_part() -> None:
    assert Box(0.25, 0.0, 0.75, 0.5).at(2, 4).tolist() == [[0, 1, 1, 0], [0, 0, 0, 0]]
    assert Box(0.0, 0.0, 0.5, 1.0).at(1, 3).tolist() == [[1.0, 0.5, 0.0]]
    assert Box(0.1, 0.1, 0.2, 0.3).at(1, 1)[0, 0] == pytest.approx(0.02)


@given(boxes(), SIZES, SIZES)
def test_a_box_has_its_area_at_any_size(box: Box, height: int, width: int) -> None:
    drawn = box.at(height, width)
    area = (box.right - box.left) * (box.bottom - box.top)
    assert drawn.shape == (height, width) and drawn.min() >= 0 and drawn.max() <= 1 + 1e-6
    assert float(drawn.mean()) == pytest.approx(area, abs=1e-5)


@given(st.lists(boxes(), max_size=4), SIZES, SIZES)
def test_with_the_rest_everything_is_covered(some: list[Box], height: int, width: int) -> None:
    masks: list[Mask] = [*some, Rest(tuple(some))]
    covered = torch.stack([mask.at(height, width) for mask in masks]).sum(0)
    assert float(covered.min()) >= 1 - 2e-4
    parts = shares(masks, height, width)
    assert parts.shape == (len(masks) + 1, height, width) and float(parts.min()) >= 0
    assert torch.allclose(parts.sum(0), torch.ones(height, width), atol=1e-5)


def test_boxes_that_tile_leave_no_rest() -> None:
    thirds = tuple(Box(n / 3, 0.0, (n + 1) / 3, 1.0) for n in range(3))
    for width in range(1, 20):
        assert not Rest(thirds).at(3, width).any()


def test_overlaps_are_shared() -> None:
    both = shares([Box(0, 0, 1, 1), Box(0.5, 0, 1, 1)], 1, 2)
    assert both[:, 0].tolist() == [[0.0, 0.0], [1.0, 0.5], [0.0, 0.5]]


def test_a_drawing_is_averaged() -> None:
    drawn = Drawn(2, 4, bytes([255, 255, 0, 0, 255, 0, 0, 51]))
    assert drawn.at(2, 4)[1].tolist() == pytest.approx([1.0, 0.0, 0.0, 0.2])
    assert drawn.at(1, 2)[0].tolist() == pytest.approx([0.75, 0.05])
    assert drawn == Drawn(2, 4, drawn.cells) and hash(drawn) == hash(Drawn(2, 4, drawn.cells))
