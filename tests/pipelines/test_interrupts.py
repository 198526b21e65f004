"""How soon a rendering stops: in the middle of a UNet call, between texts, between pictures and tiles. By counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

from composer.errors import BadRequest
from composer.request import Hires
from lora_zoo.errors import ZooError
from pipelines import specs
from pipelines.engine import Engine
from pipelines.errors import Cancelled, OutOfTime
from pipelines.model import LoadedModel
from pipelines.progress import Cancel
from pipelines.runtime import Runtime
from tests.adapters import Shelf, five
from tests.requests import ask, uses


@contextmanager
def at_runs(module: nn.Module, act: Callable[[int], None]) -> Iterator[list[int]]:
    """Do something at the beginning of each run of a module, told which it is, from 1; yield these numbers."""
    runs: list[int] = []

    def begin(_module: nn.Module, _inputs: object) -> None:
        runs.append(len(runs) + 1)
        act(runs[-1])

    handle = module.register_forward_pre_hook(begin)
    try:
        yield runs
    finally:
        handle.remove()


def nothing(_run: int) -> None:
    """Do nothing."""


def part(model: LoadedModel, component: str, path: str = "") -> nn.Module:
    return model.component(component).get_submodule(path)


@pytest.mark.parametrize("last", [1, 2, 5])
def test_a_call_under_way_is_not_finished(last: int, engine: Engine, small: LoadedModel, small_folder: Path) -> None:
    cancel = Cancel()
    request = ask(str(small_folder), num_inference_steps=8)
    with at_runs(part(small, "unet", "conv_in"), lambda run: run == last and cancel.cancel()) as begun:
        with at_runs(part(small, "unet", "conv_out"), nothing) as ended, pytest.raises(Cancelled):
            engine.render(request, cancel=cancel)
    assert (len(begun), len(ended)) == (last, last - 1)


def test_looks_between_steps_are_stopped(engine: Engine, small: LoadedModel, small_folder: Path) -> None:
    """CLoRA looks 63 times before its first step; the third look is the last."""
    cancel = Cancel()
    adapters = tuple(use.model_copy(update={"words": (w,)}) for use, w in zip(uses(2), ("cat", "mat"), strict=True))
    request = ask(str(small_folder), method="clora", adapters=adapters, num_inference_steps=20)
    with at_runs(part(small, "unet", "conv_in"), lambda run: run == 3 and cancel.cancel()) as begun:
        with pytest.raises(Cancelled):
            engine.render(request, cancel=cancel)
    assert len(begun) == 3


def test_texts_are_not_read_on(engine: Engine, small: LoadedModel, small_folder: Path) -> None:
    cancel = Cancel()
    request = ask(str(small_folder), prompt=" AND ".join(f"thing {n}" for n in range(40)))
    layer = next(one for one in part(small, "text_encoder").modules() if isinstance(one, nn.Embedding))
    with at_runs(layer, lambda run: run == 2 and cancel.cancel()) as texts:
        with at_runs(part(small, "unet"), nothing) as calls, pytest.raises(Cancelled):
            engine.render(request, cancel=cancel)
    assert (len(texts), len(calls)) == (2, 0)


def test_pictures_are_not_decoded_on(engine: Engine, small: LoadedModel, small_folder: Path) -> None:
    cancel = Cancel()
    requests = [ask(str(small_folder), seed=seed) for seed in range(4)]
    first = next(part(small, "vae", "decoder").children())
    with at_runs(first, lambda run: run == 2 and cancel.cancel()) as decoded, pytest.raises(Cancelled):
        engine.render_many(requests, cancel=cancel)
    assert len(decoded) == 2


def test_tiles_are_not_decoded_on(sd15_folder: Path) -> None:
    model = LoadedModel.load(specs.find(str(sd15_folder)), torch.device("cpu"), Runtime(vae_tiling=True))
    vae = cast(Any, model.component("vae"))
    vae.tile_latent_min_size, vae.tile_sample_min_size = 8, 64
    engine, cancel = Engine(Shelf(five(model.layout)), load=lambda _spec: model), Cancel()
    request = ask(str(sd15_folder), width=192, height=192, num_inference_steps=1)
    with at_runs(vae.decoder.conv_in, nothing) as all_tiles:
        engine.render(request)
    with at_runs(vae.decoder.conv_in, lambda run: run == 2 and cancel.cancel()) as tiles, pytest.raises(Cancelled):
        engine.render(request, cancel=cancel)
    assert len(all_tiles) == 16 and len(tiles) == 2


def test_the_second_pass_is_stopped(engine: Engine, small: LoadedModel, small_folder: Path) -> None:
    cancel = Cancel()
    request = ask(str(small_folder), num_inference_steps=2, hires=Hires(scale=2.0, strength=1.0))
    with at_runs(part(small, "unet", "conv_in"), lambda run: run == 3 and cancel.cancel()) as begun:
        with pytest.raises(Cancelled):
            engine.render(request, cancel=cancel)
    assert len(begun) == 3


def test_one_that_was_stopped_before_it_began_does_nothing(
    engine: Engine, small: LoadedModel, small_folder: Path
) -> None:
    cancel = Cancel()
    cancel.cancel()
    with at_runs(part(small, "text_encoder"), nothing) as texts, pytest.raises(Cancelled):
        engine.render(ask(str(small_folder)), cancel=cancel)
    assert texts == []


def test_what_was_stopped_leaves_nothing_behind(engine: Engine, small: LoadedModel, small_folder: Path) -> None:
    request = ask(str(small_folder), adapters=uses(2), method="cmlora", num_inference_steps=5)
    wanted = engine.render(request).record.pixels_sha256
    hooks = [len(module._forward_pre_hooks) for module in small.unet.modules()]
    for last in (2, 4):
        cancel = Cancel()
        with at_runs(part(small, "unet", "conv_in"), lambda run, last=last, it=cancel: run == last and it.cancel()):
            with pytest.raises(Cancelled):
                engine.render(request, cancel=cancel)
    assert [len(module._forward_pre_hooks) for module in small.unet.modules()] == hooks
    assert engine.render(request).record.pixels_sha256 == wanted


class Clock:
    """A clock that stands still unless it is set on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_time_that_is_over_stops_as_a_user_does(engine: Engine, small: LoadedModel, small_folder: Path) -> None:
    clock = Clock()
    cancel = Cancel(seconds=30, clock=clock)

    def pass_time(_run: int) -> None:
        clock.now += 10

    with (
        at_runs(part(small, "unet", "conv_in"), pass_time) as begun,
        pytest.raises(OutOfTime, match="after 30 seconds"),
    ):
        engine.render(ask(str(small_folder), num_inference_steps=20), cancel=cancel)
    assert len(begun) == 4  # at 130 the time is not over yet
    assert issubclass(OutOfTime, ZooError) and not issubclass(OutOfTime, BadRequest)


def test_without_a_limit_time_does_not_matter() -> None:
    clock = Clock()
    cancel = Cancel(clock=clock)
    clock.now = 1e12
    cancel.check()
