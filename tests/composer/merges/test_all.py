"""What every merge promises."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
import torch

from composer.merges.common import RECIPE, Weighted
from lora_zoo.adapter import Adapter, DenseDelta, LowRank
from tests.composer.merges.small import MERGES, ORDERED, SHAPES, close, low_rank, members, wide

ALL = tuple(MERGES)


def same(a: Adapter, b: Adapter, tolerance: float = 1e-5) -> bool:
    one, two = wide(a), wide(b)
    return one.keys() == two.keys() and all(close(one[key], two[key], tolerance) for key in one)


def tensors(some: Sequence[Weighted]) -> list[torch.Tensor]:
    deltas = [d for m in some for paths in m.adapter.layers.values() for d in paths.values()]
    return [t.clone() for d in deltas for t in ((d.down, d.up) if isinstance(d, LowRank) else (d.delta,))]


@pytest.mark.parametrize("weight", [1.0, 0.7, -0.4])
@pytest.mark.parametrize("name", ALL)
def test_one_member_is_itself(name: str, weight: float) -> None:
    one = Weighted(members()[0].adapter, weight)
    found = wide(MERGES[name]([one]))
    for key, delta in wide(one.adapter).items():
        assert close(found[key], weight * delta)


@pytest.mark.parametrize("name", ALL)
def test_no_member_and_no_weight_is_nothing(name: str) -> None:
    assert MERGES[name]([]).layers == {}
    assert MERGES[name]([Weighted(one.adapter, 0.0) for one in members()]).layers == {}


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("name", [name for name in ALL if name != "nplora"])
def test_weight_zero_is_not_there(name: str, place: int) -> None:
    some = members()
    off = [dataclasses.replace(one, weight=0.0) if n == place else one for n, one in enumerate(some)]
    assert same(MERGES[name](off), MERGES[name]([*some[:place], *some[place + 1 :]]))


@pytest.mark.parametrize("name", ALL)
def test_a_missing_layer_is_a_delta_of_zero(name: str) -> None:
    some = members()
    with_zeros: list[Weighted] = []
    for one in some:
        layers = {
            component: {
                path: one.adapter.component(component).get(path)
                or LowRank(torch.zeros(1, *shape[1:]), torch.zeros(shape[0], 1))
                for path, shape in paths.items()
            }
            for component, paths in SHAPES.items()
        }
        with_zeros.append(dataclasses.replace(one, adapter=dataclasses.replace(one.adapter, layers=layers)))
    assert same(MERGES[name](with_zeros), MERGES[name](some))


@pytest.mark.parametrize("name", ALL)
def test_unequal_ranks_missing_layers_and_convolutions(name: str) -> None:
    merged = MERGES[name](members())
    assert {c: {p: tuple(d.dense().shape) for p, d in paths.items()} for c, paths in merged.layers.items()} == SHAPES
    assert merged.is_finite()
    assert all(delta.abs().max() > 0 for delta in wide(merged).values())


@pytest.mark.parametrize("name", ALL)
def test_deltas_kept_whole_merge_like_their_factors(name: str) -> None:
    whole: list[Weighted] = []
    for one in members():
        layers = {c: {p: DenseDelta(d.dense()) for p, d in paths.items()} for c, paths in one.adapter.layers.items()}
        whole.append(dataclasses.replace(one, adapter=dataclasses.replace(one.adapter, layers=layers)))
    assert same(MERGES[name](whole), MERGES[name](members()), 1e-4)
    mixed = [whole[0], *members()[1:]]
    assert same(MERGES[name](mixed), MERGES[name](members()), 1e-4)


@pytest.mark.parametrize("name", [name for name in ALL if name not in ORDERED])
def test_order_does_not_matter(name: str) -> None:
    some = members()
    for order in ((2, 0, 1), (1, 2, 0), (2, 1, 0)):
        assert same(MERGES[name]([some[place] for place in order]), MERGES[name](some))


@pytest.mark.parametrize("name", ORDERED)
def test_where_order_matters_it_does(name: str) -> None:
    assert not same(MERGES[name](members()[::-1]), MERGES[name](members()), 1e-2)


@pytest.mark.parametrize("name", ALL)
def test_pure_and_repeatable(name: str) -> None:
    some = members()
    before, state = tensors(some), torch.get_rng_state()
    first, second = MERGES[name](some), MERGES[name](some)
    assert all(torch.equal(a, b) for a, b in zip(before, tensors(some), strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert same(first, second, 0.0)
    assert (first.digest, first.metadata) == (second.digest, second.metadata)


@pytest.mark.parametrize("name", ALL)
def test_the_digest_is_that_of_the_recipe(name: str) -> None:
    some = members()
    renamed = [dataclasses.replace(m, adapter=dataclasses.replace(m.adapter, name=m.adapter.name * 2)) for m in some]
    other = [dataclasses.replace(some[0], weight=0.9), *some[1:]]
    changed = [dataclasses.replace(some[0], adapter=dataclasses.replace(some[0].adapter, digest="0" * 64)), *some[1:]]
    digest = MERGES[name](some).digest
    assert MERGES[name](renamed).digest == digest
    found = {MERGES[name](one).digest for one in (some, some[::-1], some[:2], other, changed)}
    assert len(found) == 5 and all(len(one) == 64 for one in found)
    assert all(text in MERGES[name](some).metadata[RECIPE] for text in ("first", "second", '"weight": -0.8'))


def test_different_merges_have_different_digests() -> None:
    assert len({merge(members()).digest for merge in MERGES.values()}) == len(MERGES)


@pytest.mark.parametrize("name", ALL)
def test_ranks_beyond_the_width_of_a_layer(name: str) -> None:
    wide_ones = [
        Weighted(dataclasses.replace(m.adapter, layers={"unet": {"q": low_rank((6, 5), 9, n)}}), m.weight)
        for n, m in enumerate(members())
    ]
    assert MERGES[name](wide_ones).is_finite()
