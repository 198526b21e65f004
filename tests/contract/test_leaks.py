"""The leak rules: nothing of a request is left behind, whatever becomes of it. For every registered method."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL.Image import Image

from composer import registry
from composer.errors import BadRequest
from composer.request import RenderRequest
from pipelines.engine import Engine
from pipelines.errors import Cancelled
from pipelines.model import LoadedModel
from pipelines.progress import Cancel, StepReport
from tests.adapters import Kind, Shelf, random_adapter
from tests.requests import ask, final_latents, for_method, uses

METHODS = registry.names()
STEPS = 3


class Boom(Exception):
    """Something went wrong in the middle of a step."""


@pytest.fixture(scope="module")
def base(engine: Engine, small_folder: Path) -> Image:
    return engine.render(ask(str(small_folder))).image


@contextmanager
def untouched(model: LoadedModel) -> Iterator[None]:
    """Check rules 1 and 5: no weight, no random state, no global setting differs afterwards."""
    before = (model.parameter_digest(), torch.get_rng_state().tolist(), repr(np.random.get_state()))
    before = (*before, random.getstate(), torch.get_default_dtype(), torch.is_grad_enabled())
    yield
    after = (model.parameter_digest(), torch.get_rng_state().tolist(), repr(np.random.get_state()))
    assert (*after, random.getstate(), torch.get_default_dtype(), torch.is_grad_enabled()) == before


def raise_at(index: int) -> Callable[[StepReport], None]:
    def on_step(report: StepReport) -> None:
        if report.index == index:
            raise Boom

    return on_step


def cancel_at(index: int, cancel: Cancel, seen: list[int]) -> Callable[[StepReport], None]:
    def on_step(report: StepReport) -> None:
        seen.append(report.index)
        if report.index == index:
            cancel.cancel()

    return on_step


@pytest.mark.parametrize("name", METHODS)
def test_a_rendering_leaves_the_base_model(
    name: str, engine: Engine, small: LoadedModel, small_folder: Path, base: Image
) -> None:
    with untouched(small):
        assert engine.render(for_method(name, str(small_folder), scheduler="dpmpp_sde")).image != base
    assert engine.render(ask(str(small_folder))).image == base


@pytest.mark.sampled(9)
@pytest.mark.parametrize("index", range(STEPS))
@pytest.mark.parametrize("name", METHODS)
def test_a_raising_step_leaves_the_base_model(
    name: str, index: int, engine: Engine, small: LoadedModel, small_folder: Path, base: Image
) -> None:
    with untouched(small), pytest.raises(Boom):
        engine.render(for_method(name, str(small_folder)), on_step=raise_at(index))
    assert engine.render(ask(str(small_folder))).image == base


@pytest.mark.sampled(9)
@pytest.mark.parametrize("index", range(STEPS))
@pytest.mark.parametrize("name", METHODS)
def test_a_raising_unet_leaves_the_base_model(
    name: str, index: int, engine: Engine, small: LoadedModel, small_folder: Path, base: Image
) -> None:
    calls = iter(range(100))

    def fail(_module: torch.nn.Module, _args: object, _out: object) -> None:
        if next(calls) == index:
            raise Boom

    handle = small.unet.get_submodule("mid_block").register_forward_hook(fail)
    try:
        with untouched(small), pytest.raises(Boom):
            engine.render(for_method(name, str(small_folder)))
    finally:
        handle.remove()
    assert engine.render(ask(str(small_folder))).image == base


@pytest.mark.sampled(9)
@pytest.mark.parametrize("index", range(STEPS))
@pytest.mark.parametrize("name", METHODS)
def test_cancelling_stops_within_a_step(
    name: str, index: int, engine: Engine, small: LoadedModel, small_folder: Path, base: Image
) -> None:
    cancel, seen = Cancel(), list[int]()
    with untouched(small), pytest.raises(Cancelled):
        engine.render(for_method(name, str(small_folder)), cancel_at(index, cancel, seen), cancel)
    assert seen == list(range(index + 1))
    assert engine.render(ask(str(small_folder))).image == base


def test_a_cancelled_request_does_no_unet_call(engine: Engine, small: LoadedModel, small_folder: Path) -> None:
    cancel = Cancel()
    cancel.cancel()
    calls: list[int] = []
    handle = small.unet.register_forward_hook(lambda *_: calls.append(1))
    try:
        with pytest.raises(Cancelled):
            engine.render(ask(str(small_folder)), cancel=cancel)
    finally:
        handle.remove()
    assert calls == []


def test_what_a_callback_does_to_latents_stays_there(engine: Engine, small_folder: Path, base: Image) -> None:
    def spoil(report: StepReport) -> None:
        for picture in report.pictures:
            picture.latents.zero_()

    assert engine.render(ask(str(small_folder)), spoil).image == base


def test_a_name_may_mean_another_content_in_the_next_request(small: LoadedModel, small_folder: Path) -> None:
    shelf = Shelf([random_adapter("changing", small.layout, Kind(2, 2.0), 71)])
    engine = Engine(shelf, load=lambda spec: small)
    request = ask(str(small_folder), adapters=({"name": "changing"},))
    first = engine.render(request)
    old = random_adapter("changing", small.layout, Kind(2, 2.0), 71)
    new = random_adapter("changing", small.layout, Kind(2, 2.0), 72)
    shelf.put(new)
    second = engine.render(request)
    digests = [one.record.adapters[0].sha256 for one in (first, second)]
    assert digests == [old.digest, new.digest] and first.image != second.image
    with pytest.raises(BadRequest, match="is not the file asked for"):
        engine.render(first.record.request())
    shelf.put(old)
    assert engine.render(first.record.request()).image == first.image


def test_a_pinned_content_is_insisted_on(engine: Engine, small_folder: Path) -> None:
    with pytest.raises(BadRequest, match="'lora0' is not the file asked for"):
        engine.resolve(ask(str(small_folder), adapters=({"name": "lora0", "sha256": "f" * 64},)))


def test_requests_share_no_noise(engine: Engine, small_folder: Path) -> None:
    request = ask(str(small_folder), scheduler="euler_a")
    alone = engine.render(request).image
    twice = engine.render_many([request, request])
    assert close(np.asarray(twice[0].image), np.asarray(twice[1].image), 1.0)
    assert close(np.asarray(twice[0].image), np.asarray(alone), 1.0)


def mixed(model: str) -> list[RenderRequest]:
    """Return requests that differ in everything a batch may differ in."""
    return [
        *(for_method(name, model, seed=n) for n, name in enumerate(METHODS)),
        *(for_method(name, model, guidance_scale=1.0, num_inference_steps=2) for name in METHODS),
        ask(model, scheduler="euler_a", adapters=uses(1, first=3), prompt="on"),
        ask(model, scheduler="dpmpp_2m_karras", num_inference_steps=5, method="composite", adapters=uses(5)),
        ask(model, width=24, scheduler="lcm", method="switch", adapters=uses(3), parameters={"interval": 1}),
        ask(model, guidance_rescale=0.5, text_encoder_adapters="per_lora", method="composite", adapters=uses(3)),
        ask(model),
    ]


def close(a: object, b: object, tolerance: float) -> bool:
    return float(np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).max()) <= tolerance


@pytest.mark.thorough
@pytest.mark.parametrize("max_rows", [2, 7, 64])
def test_alone_or_in_any_company(max_rows: int, engine: Engine, small: LoadedModel, small_folder: Path) -> None:
    requests = mixed(str(small_folder))
    alone = [final_latents(engine, [request])[0] for request in requests]
    crowd = Engine(engine.source, load=lambda spec: small, max_rows=max_rows)
    with untouched(small):
        together = final_latents(crowd, requests)
        backwards = final_latents(crowd, requests[::-1])[::-1]
    for one, two, three in zip(alone, together, backwards, strict=True):
        assert close(one, two, 1e-4) and close(one, three, 1e-4)


def test_batches_cost_fewer_calls(engine: Engine, small_folder: Path) -> None:
    requests = mixed(str(small_folder))
    cost = engine.dry_run_many(requests)
    records = [rendering.record for rendering in engine.render_many(requests)]
    assert cost.unet_passes == sum(record.unet_passes for record in records)
    assert cost.unet_calls < sum(engine.dry_run(request).unet_calls for request in requests)
    assert max(record.rows_per_call for record in records) <= 16


def test_threads_wait_for_each_other(engine: Engine, small: LoadedModel, small_folder: Path) -> None:
    requests = mixed(str(small_folder))[:6]
    wanted = [engine.render(request).image for request in requests]
    found: dict[int, Image] = {}

    def work(place: int) -> None:
        found[place] = engine.render(requests[place]).image

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(requests))]
    with untouched(small):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [found[place] for place in range(len(requests))] == wanted
