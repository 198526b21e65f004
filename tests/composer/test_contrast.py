"""CLoRA's loss against plain loops in double precision, whose maps are whose, and when latents are updated."""

from __future__ import annotations

import math
from typing import cast

import pytest
import torch
from torch import Tensor

from composer import registry
from composer.contrast import Concepts, contrastive, normalised
from composer.plan import Attention, Job, JobAdapter, Look, Step
from composer.schedules import updates
from composer.words import separated

JOB = Job(
    (JobAdapter("a", 1.0, 1.0, ("cat",)), JobAdapter("b", 1.0, 1.0, ("dog",))), "a cat, a dog", "", "all", 4, 3, 4
)


def drawn(count: int, seed: int) -> Tensor:
    return torch.rand(count, 3, 4, generator=torch.Generator().manual_seed(seed))


def by_hand(groups: list[Tensor], temperature: float) -> float:
    vectors: list[tuple[int, list[float]]] = []
    for owner, maps in enumerate(groups):
        for one in maps.double().flatten(1).tolist():
            low, high = min(one), max(one)
            shape = [(value - low) / (high - low) for value in one]
            length = math.sqrt(sum(value * value for value in shape))
            vectors.append((owner, [value / length for value in shape]))
    losses: list[float] = []
    for a, (owner, anchor) in enumerate(vectors):
        score = [math.exp(sum(x * y for x, y in zip(anchor, other, strict=True)) / temperature) for _, other in vectors]
        wrong = sum(s for s, (other, _) in zip(score, vectors, strict=True) if other != owner)
        losses += [
            -math.log(score[p] / (score[p] + wrong))
            for p, (other, _) in enumerate(vectors)
            if other == owner and p != a
        ]
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.5, 0.1])
@pytest.mark.parametrize("sizes", [(2, 2), (3, 1, 2), (1, 4)])
def test_the_loss_is_nt_xent(sizes: tuple[int, ...], temperature: float) -> None:
    groups = [drawn(size, seed) for seed, size in enumerate(sizes)]
    assert float(contrastive(groups, temperature)) == pytest.approx(by_hand(groups, temperature), rel=1e-5)


def test_flat_maps_and_lonely_concepts_are_finite() -> None:
    flat = torch.full((1, 3, 4), 0.2, requires_grad=True)
    loss = contrastive([torch.cat([flat, drawn(1, 1)]), drawn(2, 2)], 0.5)
    loss.backward()
    assert math.isfinite(float(loss.detach())) and flat.grad is not None and bool(flat.grad.isfinite().all())
    assert float(normalised(flat.detach()).abs().max()) == 0.0
    alone = drawn(3, 3).requires_grad_(True)
    only = contrastive([alone], 0.5)
    only.backward()
    assert float(only.detach()) == 0.0 and alone.grad is not None and float(alone.grad.abs().max()) == 0.0
    assert float(contrastive([drawn(1, 1), drawn(1, 2)], 0.5)) == 0.0  # no pair


def test_a_small_step_lowers_it() -> None:
    maps = torch.cat([drawn(2, 1), drawn(2, 2)]).requires_grad_(True)
    before = contrastive([maps[:2], maps[2:]], 0.5)
    (slope,) = torch.autograd.grad(before, maps)
    after = contrastive(list((maps - 0.01 * slope).detach().split(2)), 0.5)
    assert float(after) < float(before.detach())


def test_whose_maps_are_whose() -> None:
    maps = torch.arange(5.0)[:, None, None].expand(5, 2, 2)
    numbers = {"zorp": (1,), "alien": (2,), "krag": (3,), "brute": (4,)}
    told = Attention(maps, numbers.__getitem__)
    texts = ["alien, brute", "zorp, alien, brute", "alien, krag, brute"]
    concepts = Concepts(texts, [("zorp", "alien"), ("krag", "brute")])
    first, second = concepts.groups([told, told, told])
    assert first[:, 0, 0].tolist() == [2, 1, 2, 2] and second[:, 0, 0].tolist() == [4, 4, 3, 4]
    assert [one[:, 0, 0].tolist() for one in concepts.own([told, told])] == [[1, 2], [3, 4]]


def test_a_prompt_for_each() -> None:
    owners = [("zorp", "one-eyed alien"), ("krag", "horned brute")]
    both = "zorp the one-eyed alien and krag the horned brute"
    assert separated(both, owners) == [
        "the one-eyed alien and the horned brute",
        "zorp the one-eyed alien and the horned brute",
        "the one-eyed alien and krag the horned brute",
    ]
    assert separated("a cat, a dog", [("cat",), ("dog",)]) == ["a cat, a dog"] * 3  # nothing else says them
    assert separated("zorp in a vest", [("zorp", "one-eyed alien"), ("vest",)]) == ["zorp in a vest"] * 3
    crossed = [("cat", "red"), ("a cat",)]  # without the first's trigger the second would not be said
    assert separated("a cat, red", crossed)[0] == "a cat, red"


def test_updates_as_in_the_paper() -> None:
    asked = [updates(Step(index, 50, 0.0, 0.0), 0.5, 20) for index in range(50)]
    assert [index for index, count in enumerate(asked) if count == 21] == [0, 10, 20]
    assert set(asked[:25]) == {1, 21} and set(asked[25:]) == {0}


def test_a_step_of_zero_changes_nothing() -> None:
    """T23: latents stay the very same, and nobody looks."""
    plan = registry.create("clora", {"update": 0.0}).start(JOB)
    step, latents = Step(0, 4, 999.0, 1.0), drawn(4, 7)[None]
    assert plan.before_step is not None and plan.looks(step) == 0
    assert plan.before_step(step, latents, cast(Look, None)) is latents
