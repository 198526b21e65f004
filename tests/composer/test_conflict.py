"""Conflicts of two LoRAs: exact small cases, and the dense arithmetic that the factors stand for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from composer.conflict import Conflict, block_of, conflicts, place_of
from composer.merges import norms
from composer.merges.common import Weighted
from lora_zoo.adapter import Adapter, Delta, DenseDelta, LowRank

PATH = "down_blocks.0.attentions.0.to_q"
OTHER = "down_blocks.0.attentions.1.to_q"


def adapter(name: str, **layers: Delta) -> Adapter:
    paths = {"one": PATH, "two": OTHER, "up": "up_blocks.1.conv"}
    return Adapter(name, name, {"unet": {paths[key]: delta for key, delta in layers.items()}})


def rank_one(up: list[float], down: list[float]) -> LowRank:
    return LowRank(torch.tensor([down]), torch.tensor([up]).T)


def only(first: Adapter, second: Adapter, weights: tuple[float, float] = (1.0, 1.0)) -> Conflict:
    (found,) = conflicts([Weighted(first, weights[0]), Weighted(second, weights[1])])
    return found


A = rank_one([1.0, 0.0], [1.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("other", "overlap", "cancelled"),
    [
        (A, 1.0, -1.0),  # the same change twice
        (rank_one([-1.0, 0.0], [1.0, 0.0, 0.0]), 1.0, 1.0),  # it undone
        (rank_one([0.0, 1.0], [1.0, 0.0, 0.0]), 1.0, 0.0),  # the same input, another output
        (rank_one([1.0, 0.0], [0.0, 1.0, 0.0]), 0.0, 0.0),  # another input, the same output
        (rank_one([-3.0, 0.0], [1.0, 0.0, 0.0]), 1.0, 0.6),  # 1 - (1 - 3)^2 / (1 + 9)
        (rank_one([-1.0, 0.0], [1.0, 1.0, 0.0]), 0.5, 2 / 3),  # 1 - 1 / 3
    ],
)
def test_small_cases(other: LowRank, overlap: float, cancelled: float) -> None:
    found = only(adapter("a", one=A), adapter("b", one=other))
    assert (found.block, found.layers) == ("unet.down_blocks.0", 1)
    assert found.overlap == pytest.approx(overlap)
    assert found.cancelled == pytest.approx(cancelled)
    assert found.chance == pytest.approx(1 / 3)


def test_weights_decide_what_cancels_but_not_what_overlaps() -> None:
    found = only(adapter("a", one=A), adapter("b", one=A), (1.0, -1.0))
    assert (found.overlap, found.cancelled) == (pytest.approx(1.0), pytest.approx(1.0))
    assert only(adapter("a", one=A), adapter("b", one=A), (0.0, 0.0)).cancelled == 0.0


def test_a_layer_that_one_alone_changes_dilutes_a_block() -> None:
    found = only(adapter("a", one=A, two=A), adapter("b", one=A))
    assert found.layers == 1
    assert found.overlap == pytest.approx(0.5**0.5)
    assert found.cancelled == pytest.approx(-2 / 3)


def test_blocks_are_told_apart_and_only_common_ones_listed() -> None:
    pair = [Weighted(adapter("a", one=A, up=A), 1.0), Weighted(adapter("b", one=A), 1.0)]
    assert [one.block for one in conflicts(pair)] == ["unet.down_blocks.0"]
    assert block_of("text_encoder", "text_model.encoder.layers.3.mlp.fc1") == "text_encoder.layers.3"
    assert block_of("unet", "conv_in") == "unet.rest"


def test_blocks_come_in_the_order_of_the_model() -> None:
    order = [f"unet.{name}" for name in ("down_blocks.0", "down_blocks.10", "mid_block", "up_blocks.2", "rest")]
    assert sorted(reversed(order), key=place_of) == order
    assert sorted(["text_encoder.layers.11", "text_encoder.layers.2"], key=place_of)[0] == "text_encoder.layers.2"


def random(seed: int, shape: tuple[int, ...], rank: int) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    down = torch.randn(rank, *shape[1:], generator=generator)
    return LowRank(down, torch.randn(shape[0], rank, generator=generator))


def dense(first: Tensor, second: Tensor) -> tuple[float, float]:
    """Return overlap and cancelled as the definitions say."""
    one, two = first.flatten(1).double(), second.flatten(1).double()
    grams = one.mT @ one, two.mT @ two
    overlap = (grams[0] * grams[1]).sum() / (grams[0].norm() * grams[1].norm())
    cancelled = 1 - (one + two).square().sum() / (one.square().sum() + two.square().sum())
    return float(overlap), float(cancelled)


@pytest.mark.parametrize("shape", [(6, 9), (5, 4, 3, 3)])
def test_factors_give_what_whole_deltas_give(shape: tuple[int, ...]) -> None:
    first, second = random(1, shape, 3), random(2, shape, 2)
    overlap, cancelled = dense(first.dense(), second.dense())
    for other in (second, DenseDelta(second.dense())):
        found = only(adapter("a", one=first), adapter("b", one=other))
        assert found.overlap == pytest.approx(overlap, rel=1e-4)
        assert found.cancelled == pytest.approx(cancelled, rel=1e-4)


def test_chance_is_the_mean_over_random_directions() -> None:
    first, second = random(1, (6, 12), 3), random(2, (6, 12), 2)
    generator, overlaps = torch.Generator().manual_seed(0), []
    for _ in range(400):
        turn, signs = torch.linalg.qr(torch.randn(12, 12, generator=generator))
        turned = LowRank(second.down @ (turn * signs.diagonal().sign()), second.up)  # a uniformly random rotation
        overlaps.append(only(adapter("a", one=first), adapter("b", one=turned)).overlap)
    chance = only(adapter("a", one=first), adapter("b", one=second)).chance
    assert sum(overlaps) / len(overlaps) == pytest.approx(chance, rel=0.05)


def test_words_tell_a_fight_from_strangers() -> None:
    opposite = rank_one([-1.0, 0.0], [1.0, 0.0, 0.0])
    told = only(adapter("ink", one=A), adapter("alice", one=opposite)).told()
    assert (
        told
        == "ink and alice fight in unet.down_blocks.0: 1.00 overlap (0.33 by chance), 100% of their change cancels out"
    )
    apart = only(adapter("ink", one=A), adapter("alice", one=rank_one([1.0, 0.0], [0.0, 1.0, 0.0])))
    assert not apart.notable
    assert "keep apart" in apart.told()


def test_norms_are_those_of_the_whole_delta() -> None:
    for shape in ((6, 9), (5, 4, 3, 3)):
        delta = random(3, shape, 3)
        flat = delta.dense().flatten(1)
        assert norms.frobenius(delta) == pytest.approx(float(flat.norm()), rel=1e-5)
        assert norms.spectral(delta) == pytest.approx(float(torch.linalg.svdvals(flat)[0]), rel=1e-5)
        assert norms.spectral(DenseDelta(delta.dense())) == pytest.approx(norms.spectral(delta), rel=1e-5)
    assert norms.spectral(LowRank(torch.zeros(1, 3), torch.zeros(2, 1))) == 0.0


def test_power_iteration_agrees_with_a_decomposition() -> None:
    for seed in range(5):
        weight = torch.randn(40, 30, 1, 1, generator=torch.Generator().manual_seed(seed))
        exact = float(torch.linalg.svdvals(weight.flatten(1))[0])
        assert norms.spectral_of_weight(weight) == pytest.approx(exact, rel=2e-3)
    assert norms.spectral_of_weight(torch.zeros(3, 4)) == 0.0
