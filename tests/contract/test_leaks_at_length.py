"""The leak rules at length: many threads at once, and a fault at each of the first modules of a step."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
import torch

from composer import registry
from composer.request import RenderRequest
from pipelines.engine import Engine
from pipelines.model import LoadedModel
from tests.contract.test_leaks import Boom, untouched
from tests.requests import ask, for_method

METHODS = registry.names()
THREADS, EACH = 8, 200
FAULTS = 200
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def test_many_threads_get_what_each_request_gives_alone(engine: Engine, small: LoadedModel, small_folder: Path) -> None:
    kinds = [for_method(name, str(small_folder), num_inference_steps=2, seed=n) for n, name in enumerate(METHODS)]
    alone = [engine.render(request).image for request in kinds]
    wrong: list[str] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(EACH):
            place = rng.randrange(len(kinds))
            if engine.render(kinds[place]).image != alone[place]:
                wrong.append(kinds[place].method)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
    with untouched(small):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.parametrize("name", ["composite", "ties", "regional", "clora"])
def test_a_fault_anywhere_in_a_step_leaves_the_base_model(
    name: str, engine: Engine, small: LoadedModel, small_folder: Path
) -> None:
    base = engine.render(ask(str(small_folder))).image
    request = for_method(name, str(small_folder), num_inference_steps=2)
    for place in range(FAULTS):
        with untouched(small):
            assert raises(engine, small, request, place)
        if place % 20 == 0:
            assert engine.render(ask(str(small_folder))).image == base


def raises(engine: Engine, model: LoadedModel, request: RenderRequest, place: int) -> bool:
    """Raise in the module of the UNet that is called at this place; tell whether so many are called."""
    calls = iter(range(1 << 30))

    def fault(_module: torch.nn.Module, _args: object) -> None:
        if next(calls) == place:
            raise Boom

    handles = [module.register_forward_pre_hook(fault) for module in model.unet.modules()]
    try:
        engine.render(request)
    except Boom:
        return True
    finally:
        for handle in handles:
            handle.remove()
    return False
