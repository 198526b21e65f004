"""The trainers' own parts: a stopped run goes on as if undisturbed, Muon orthogonalises, captions become tokens."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import torch
from torch import Tensor, nn

from lora_zoo.train import tokenizer as bpe
from lora_zoo.train.clip import sibling
from lora_zoo.train.common import Run, Schedule
from lora_zoo.train.muon import Muon, orthogonal
from lora_zoo.train.recipes import ATTENTION, CONVOLUTIONS, RECIPES
from lora_zoo.world.captions import caption
from lora_zoo.world.draw import draw
from lora_zoo.world.scene import sample_any
from lora_zoo.world.vocabulary import CONCEPTS


class Stop(Exception):
    pass


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(64, 2))


def _trained(folder: Path, net: nn.Module, stop_at: int | None = None) -> nn.Module:
    def loss_of(step: int, rng: Random) -> Tensor:
        if step == stop_at:
            raise Stop
        x = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(rng.getrandbits(31)))
        return net(x).square().mean()

    return Run("net", folder, net, Schedule(12, 0.02, 3), lambda m: Muon(m, 0.02), save_every=0.0).train(loss_of)


def test_a_stopped_run_goes_on_as_if_undisturbed(tmp_path: Path) -> None:
    whole = _trained(tmp_path / "whole", _net())
    with pytest.raises(Stop):
        _trained(tmp_path / "parts", _net(), stop_at=7)
    resumed = _trained(tmp_path / "parts", _net())
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_schedule_warms_up_and_ends_at_zero() -> None:
    schedule = Schedule(100, 1.0, 10)
    assert schedule.rate(0) == pytest.approx(0.1) and schedule.rate(9) == pytest.approx(1.0)
    assert schedule.rate(55) == pytest.approx(0.5) and schedule.rate(100) == pytest.approx(0.0)


@pytest.mark.parametrize("shape", [(3, 6, 10), (2, 10, 6)])
def test_muon_brings_singular_values_near_one(shape: tuple[int, ...]) -> None:
    made = orthogonal(torch.randn(*shape, generator=torch.Generator().manual_seed(1)))
    values = torch.linalg.svdvals(made)
    assert values.min() > 0.5 and values.max() < 1.3


def test_the_shipped_tokenizer_reads_captions_and_anything_else() -> None:
    read = bpe.CLIPTokenizer.from_pretrained(bpe.TINY / "tokenizer")
    rng = Random(2)
    for _ in range(200):
        said = caption(sample_any(rng), rng)
        ids = read(said).input_ids
        assert len(ids) <= bpe.LENGTH and read.decode(ids[1:-1]).replace(" ", "") == said.replace(" ", "")
    odd = "Ünïcode 日本語 \U0001f642 \x07 naïve—text"
    ids = read(odd).input_ids
    assert ids[0] == read.bos_token_id and ids[-1] == read.eos_token_id and ids.count(read.eos_token_id) == 1


def test_recipes_are_as_varied_as_promised() -> None:
    assert [r.concept for r in RECIPES] == [c.name for c in CONCEPTS]
    assert {r.dialect for r in RECIPES} == {"kohya", "diffusers", "peft"}
    assert len({r.rank for r in RECIPES}) >= 4 and any(r.alpha != r.rank for r in RECIPES)
    assert any(set(r.targets) == set(ATTENTION) for r in RECIPES)
    assert any(set(CONVOLUTIONS) <= set(r.targets) for r in RECIPES)
    assert any(r.text for r in RECIPES)


def test_siblings_differ_in_every_kind_of_attribute() -> None:
    """What siblings never change, the text tower has no reason to tell."""
    rng, changed = Random(2), set[str]()
    for _ in range(400):
        scene = sample_any(rng, 0.45, two=0.6)
        other = sibling(scene, rng)
        assert other != scene and len(other.creatures) == len(scene.creatures)
        for mine, theirs in zip(scene.creatures, other.creatures, strict=True):
            assert (theirs.character is None) == (theirs.shape is not None) == (theirs.colour is not None)
            changed |= {name for name in vars(mine) if getattr(mine, name) != getattr(theirs, name)}
        changed |= {"place"} if scene.place != other.place else set()
        assert caption(other, Random(0)) and draw(other, 0).size == (64, 64)
    assert changed == {"shape", "colour", "garment", "garment_colour", "held", "character", "place"}
