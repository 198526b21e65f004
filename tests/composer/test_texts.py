"""Texts as a text encoder reads them: likeness and projection."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from composer.texts import TextEmbedding, likeness, project_off


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_own_tokens_follow_the_start() -> None:
    text = TextEmbedding(torch.arange(10.0).reshape(5, 2), 2)
    assert text.own.tolist() == [[2.0, 3.0], [4.0, 5.0]]


def test_likeness_is_the_cosine_of_means() -> None:
    one, other = torch.tensor([[1.0, 0.0], [5.0, 0.0]]), torch.tensor([[0.0, 2.0], [1.0, 0.0], [2.0, 1.0]])
    assert likeness(one, other) == pytest.approx(0.5**0.5)  # (3, 0) and (1, 1)
    assert likeness(one, -one) == pytest.approx(-1.0)


def test_projection_by_hand() -> None:
    embeds = torch.tensor([[[7.0, 7.0, 7.0], [1.0, 2.0, 3.0], [4.0, 0.0, 5.0]]])
    undesired = torch.tensor([[0.0, 3.0, 0.0], [0.0, -5.0, 0.0]])  # two tokens that span one axis
    freed = project_off(embeds, undesired, 1.0)
    assert torch.allclose(freed, torch.tensor([[[7.0, 7.0, 7.0], [1.0, 0.0, 3.0], [4.0, 0.0, 5.0]]]), atol=1e-6)
    half = project_off(embeds, undesired, 0.5)
    assert torch.allclose(half[0, 1], torch.tensor([1.0, 1.0, 3.0]), atol=1e-6)


def test_projection_at_its_ends() -> None:
    embeds, undesired = drawn(1, 9, 16), drawn(3, 16, seed=1)
    assert torch.equal(project_off(embeds, undesired, 0.0), embeds)
    once = project_off(embeds, undesired, 1.0)
    assert float((once[0, 1:] @ undesired.T).abs().max()) < 1e-5
    assert torch.allclose(project_off(once, undesired, 1.0), once, atol=1e-6)
    assert not torch.allclose(once, embeds, atol=0.1)
    assert torch.equal(project_off(embeds, undesired[:0], 1.0), embeds)


def test_orthogonal_embeddings_stay() -> None:
    undesired = drawn(2, 16, seed=1)
    orthogonal = project_off(drawn(1, 9, 16), undesired, 1.0)
    assert torch.allclose(project_off(orthogonal, 5.0 * undesired, 0.7), orthogonal, atol=1e-6)


def test_projection_keeps_the_kind_of_number() -> None:
    assert project_off(drawn(1, 4, 8).half(), drawn(2, 8).half(), 1.0).dtype == torch.float16
