"""The small parts: dealing rows to calls, caches, schedulers, guidance."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from composer.plan import Prediction
from lora_zoo.adapter import Adapter, LowRank
from pipelines import schedulers, specs
from pipelines.batching import deal
from pipelines.guidance import guide
from pipelines.model import LoadedModel
from pipelines.store import AdapterStore, ByteCache, ChangedAdapter


@pytest.mark.parametrize(
    ("rows", "most", "wanted"),
    [
        ([], 8, []),
        ([2, 2, 2], 8, [[2, 2, 2]]),
        ([2] * 9, 16, [[2] * 5, [2] * 4]),
        ([2, 1, 2, 1], 4, [[2, 1], [2, 1]]),
        ([2, 2], 1, [[2], [2]]),
        ([1] * 5, 2, [[1, 1], [1, 1], [1]]),
    ],
)
def test_dealing(rows: list[int], most: int, wanted: list[list[int]]) -> None:
    assert deal(rows, int, most) == wanted


def test_dealing_keeps_everything_in_order() -> None:
    rows = [1, 2, 2, 1, 2, 1, 1, 2, 2, 2, 1]
    for most in range(2, 20):
        dealt = deal(rows, int, most)
        assert [row for call in dealt for row in call] == rows
        assert all(sum(call) <= most for call in dealt)


def test_a_cache_forgets_what_was_used_longest_ago() -> None:
    cache: ByteCache[str, str] = ByteCache(10)
    made: list[str] = []

    def use(key: str, size: int = 4) -> None:
        def make() -> tuple[str, int]:
            made.append(key)
            return key, size

        assert cache.get(key, make) == key

    for key in "abacab":
        use(key)
    assert "".join(made) == "abcb"
    use("huge", 99)
    use("huge", 99)
    use("a")
    assert made[4:] == ["huge", "a"]


def adapter(name: str, digest: str) -> Adapter:
    return Adapter(name, digest, {"unet": {"x": LowRank(torch.zeros(1, 10), torch.zeros(10, 1))}})  # 80 bytes


def test_a_store_drops_what_is_not_needed() -> None:
    store = AdapterStore(170)
    for name in "abc":
        store.hold(name, name, lambda name=name: adapter(name, name))
    store.hold("a", "a", lambda: adapter("a", "other"))  # held already: not loaded again
    store.trim(frozenset("b"))
    assert store["a"] and store["b"]
    with pytest.raises(KeyError):
        store["c"]


def test_a_store_insists_on_content() -> None:
    store = AdapterStore(1000)
    with pytest.raises(ChangedAdapter, match="not d1 as it is listed"):
        store.hold("a", "d1", lambda: adapter("a", "d2"))
    for digest in ("d2", "d1", "d2"):  # a name may stand for another content in the next request
        assert store[store.hold("a", digest, lambda digest=digest: adapter("a", digest))].digest == digest


@pytest.mark.parametrize("name", schedulers.names())
@pytest.mark.parametrize("count", [1, 2, 7])
def test_schedulers(name: str, count: int, small: LoadedModel) -> None:
    generator = torch.Generator().manual_seed(0)
    solver, other = (small.new_solver(name, count, generator) for _ in range(2))
    assert len(solver.steps) == count
    assert [step.index for step in solver.steps] == list(range(count))
    assert all(step.count == count and step.sigma > 0 for step in solver.steps)
    assert solver.steps[0].timestep >= solver.steps[-1].timestep
    latents = torch.ones(1, 4, 8, 8)
    for step in solver.steps:
        solver.scale_input(latents, step)
        latents = solver.advance(torch.zeros_like(latents), step, latents)
    assert latents.isfinite().all()
    other.scale_input(latents, other.steps[0])  # has no history of the first one
    assert other.advance(torch.zeros_like(latents), other.steps[0], latents).isfinite().all()


def test_guidance() -> None:
    cond, uncond = torch.tensor([[[[3.0, 5.0]]]]), torch.tensor([[[[1.0, 1.0]]]])
    assert guide(Prediction(cond), 9.0, 0.5) is cond
    assert guide(Prediction(cond, uncond), 2.0, 0.0).tolist() == [[[[5.0, 9.0]]]]
    rescaled = guide(Prediction(cond, uncond), 2.0, 1.0)
    assert rescaled.std() == pytest.approx(float(cond.std()))


def test_guidance_and_the_mean_may_change_places() -> None:
    generator = torch.Generator().manual_seed(0)
    conds, unconds = torch.randn(2, 3, 4, 8, 8, generator=generator)
    inside = torch.stack([guide(Prediction(c[None], u[None]), 4.0, 0.0) for c, u in zip(conds, unconds, strict=True)])
    outside = guide(Prediction(conds.mean(0)[None], unconds.mean(0)[None]), 4.0, 0.0)
    assert torch.allclose(inside.mean(0), outside, atol=1e-6)


def test_specs_are_read_from_folders(small_folder: Path, sd15_folder: Path) -> None:
    small, sd15 = specs.find(str(small_folder)), specs.find(str(sd15_folder))
    assert (small.width, small.latent_factor) == (16, 2)
    assert (sd15.width, sd15.latent_factor) == (64, 8)
    assert small.family is None
    assert "tiny" in specs.names()
