"""Arithmetic against a bare UNet's, and memory against what was asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from eval import suites
from eval.memory import rise
from eval.metrics import effort
from eval.metrics.batch import Batch, Shot, Tools, shown
from pipelines.engine import Engine
from pipelines.model import LoadedModel
from tests.requests import ask, uses

CPU = torch.device("cpu")


def gflop(engine: Engine, small: Path, **fields: object) -> float:
    return effort.measured(engine, engine.resolve(ask(str(small), **fields)).request).values["gflop"]


def unet(model: LoadedModel, rows: int) -> float:
    """Return the arithmetic of a bare UNet on so many rows, counted without the engine."""
    latents, embeds = torch.zeros(rows, 4, 8, 8), torch.zeros(rows, 77, 24)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.unet(latents, torch.zeros(rows), encoder_hidden_states=embeds)
    return counter.get_total_flops() / 1e9


@pytest.mark.thorough
def test_a_step_more_takes_one_more_pass_of_the_unet(engine: Engine, small: LoadedModel, small_folder: Path) -> None:
    size = {"width": 8 * 2, "height": 8 * 2}
    three, four = (gflop(engine, small_folder, num_inference_steps=n, **size) for n in (3, 4))
    assert four - three == pytest.approx(unet(small, 2), rel=1e-6)
    assert three > 3 * unet(small, 2)  # reading the prompt and decoding come on top


@pytest.mark.thorough
def test_each_lora_of_a_composite_takes_a_pass(engine: Engine, small: LoadedModel, small_folder: Path) -> None:
    one, two = (gflop(engine, small_folder, method="composite", adapters=uses(n)) for n in (1, 2))
    again = gflop(engine, small_folder, method="composite", adapters=uses(2))
    assert two > 1.5 * one
    assert again == two


@pytest.mark.thorough
def test_merging_is_counted_every_time(engine: Engine, small: LoadedModel, small_folder: Path) -> None:
    none, one, two = (gflop(engine, small_folder, adapters=uses(n)) for n in (0, 1, 2))
    assert none < one < two == gflop(engine, small_folder, adapters=uses(2))


def test_watching_changes_no_picture(engine: Engine, small_folder: Path) -> None:
    request = ask(str(small_folder), method="composite", adapters=uses(2))
    before = engine.render(request).record.pixels_sha256
    with FlopCounterMode(display=False):
        watched = engine.render(request).record.pixels_sha256
    assert watched == before


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells")
def test_memory_is_what_was_taken_at_most() -> None:
    def take() -> None:
        first = torch.ones(25_000_000)
        del first
        torch.ones(10_000_000)

    risen, nothing = rise(CPU, take), rise(CPU, lambda: None)
    assert risen is not None and 95 < risen < 125
    assert nothing is not None and nothing < 20


def test_only_what_is_to_be_rendered_once_more_is(engine: Engine, small_folder: Path) -> None:
    case = suites.load("compos").cases(1)[0]
    request = engine.resolve(ask(str(small_folder))).request
    shot = Shot(case, "merge", shown(case))
    found = effort.effort(Batch([shot, replace(shot, alone=request)], Tools(engine=engine)))
    assert found[0] is None and found[1] is not None and found[1].values["gflop"] > 0
