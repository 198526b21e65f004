"""Merged adapters in the engine: made once, held with the others, one pass per step (T29), the picture they promise."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from composer import registry
from composer.merges.common import Weighted
from composer.merges.linear import linear
from composer.merging import MergingMethod
from composer.request import AdapterUse
from lora_zoo.adapter import Adapter, DenseDelta
from pipelines import bank, specs
from pipelines.engine import Engine
from pipelines.model import LoadedModel
from pipelines.store import AdapterStore
from tests.adapters import Shelf, content_digest, five
from tests.requests import ask, final_latents, uses

NAMES = tuple(name for name in registry.names() if issubclass(registry.get(name), MergingMethod))


class Counted:
    """A merge that counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def prepare(self, adapters: Sequence[Weighted]) -> Adapter:
        self.calls += 1
        return linear(adapters)


def close(a: object, b: object, tolerance: float = 1e-4) -> bool:
    return float(np.abs(np.asarray(a) - np.asarray(b)).max()) <= tolerance


def filled(small: LoadedModel, max_bytes: int) -> tuple[AdapterStore, list[Adapter]]:
    store, shelf = AdapterStore(max_bytes), five(small.layout)
    for one in shelf:
        store.hold(one.name, one.digest, lambda one=one: one)
    return store, shelf


def test_a_merge_is_made_once_for_its_members_and_weights(small: LoadedModel) -> None:
    store, shelf = filled(small, 1 << 30)
    merge, a, b = Counted(), shelf[0].digest, shelf[1].digest
    digest = store.merged(merge, ((a, 1.0), (b, 0.5)))
    assert store.merged(merge, ((a, 1.0), (b, 0.5))) == digest and merge.calls == 1
    assert store[digest].digest == digest
    others = [((a, 1.0), (b, 0.6)), ((b, 0.5), (a, 1.0)), ((a, 1.0),)]
    assert len({store.merged(merge, other) for other in others} | {digest}) == 4 and merge.calls == 4


def test_what_was_dropped_is_made_again(small: LoadedModel) -> None:
    store, shelf = filled(small, 0)
    merge, members = Counted(), ((shelf[0].digest, 1.0), (shelf[1].digest, 0.5))
    digest = store.merged(merge, members)
    store.trim(frozenset(digest for digest, _ in members))
    with pytest.raises(KeyError):
        store[digest]
    assert store.merged(merge, members) == digest and merge.calls == 2


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", NAMES)
def test_the_picture_is_that_of_the_merged_adapter(name: str, small: LoadedModel, small_folder: Path) -> None:
    """With other weights for the text encoder it is merged on its own, with those."""
    chosen = [
        AdapterUse(name="lora0", weight=0.8, text_encoder_weight=0.3),
        AdapterUse(name="lora2", weight=-0.5, text_encoder_weight=1.0),
        AdapterUse(name="lora4", weight=1.2),
    ]
    shelf = {one.name: one for one in five(small.layout)}
    method = registry.create(name, {})
    assert isinstance(method, MergingMethod)
    unet = method.prepare([Weighted(shelf[use.name], use.weight or 0.0) for use in chosen])
    texts = [(use.weight if use.text_encoder_weight is None else use.text_encoder_weight) or 0.0 for use in chosen]
    text = method.prepare([Weighted(shelf[use.name], weight) for use, weight in zip(chosen, texts, strict=True)])
    layers = {"unet": unet.component("unet"), "text_encoder": text.component("text_encoder")}
    made = Adapter(f"made by {name}", content_digest(layers), layers)
    engine = Engine(Shelf([*shelf.values(), made]), load=lambda spec: small)
    merged = final_latents(engine, [ask(str(small_folder), method=name, adapters=tuple(chosen))])[0]
    wanted = final_latents(engine, [ask(str(small_folder), adapters=({"name": made.name, "weight": 1.0},))])[0]
    assert close(merged, wanted)


def test_exact_merges_draw_what_merge_draws(engine: Engine, small_folder: Path) -> None:
    """T15: concatenation, and the decomposition at full rank."""
    usual = ask(str(small_folder), adapters=uses(3))
    full = {"method": "svd", "parameters": {"rank": 1024}}
    requests = [usual, usual.model_copy(update={"method": "cat"}), usual.model_copy(update=full)]
    plain, joined, decomposed = final_latents(engine, requests)
    assert close(plain, joined) and close(plain, decomposed)
    pruned = usual.model_copy(update={"method": "magnitude", "parameters": {"density": 0.3}})
    assert not close(plain, final_latents(engine, [pruned])[0], 1e-3)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", NAMES)
def test_one_pass_a_step(name: str, engine: Engine, small_folder: Path) -> None:
    """T29: weight merges cost what one LoRA costs, whatever their number."""
    request = ask(str(small_folder), method=name, adapters=uses(5), num_inference_steps=2)
    record = engine.render(request).record
    assert (record.unet_passes, record.unet_calls) == (2, 2)
    assert engine.dry_run(request).unet_passes == 2
    base = ask(str(small_folder), num_inference_steps=2)
    assert dataclasses.astuple(engine.dry_run(base)) == dataclasses.astuple(engine.dry_run(request))


def test_what_was_made_is_forgotten_and_what_was_loaded_is_not(small: LoadedModel) -> None:
    store, shelf = filled(small, 1 << 30)
    merge, members = Counted(), ((shelf[0].digest, 1.0), (shelf[1].digest, 0.5))
    digest = store.merged(merge, members)
    store.forget()
    with pytest.raises(KeyError):
        store[digest]
    assert store[shelf[0].digest] is shelf[0]
    assert store.merged(merge, members) == digest and merge.calls == 2


def test_memory_of_merges_that_were_dropped_counts(small: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merged copies are known by their deltas, which are as large as they are: both together stay within the room."""
    layer = max(small.layout["unet"], key=lambda path: prod(small.layout["unet"][path]))
    size = 4 * prod(small.layout["unet"][layer])
    monkeypatch.setattr(bank, "_CALLS_BYTES", 0)
    monkeypatch.setattr(bank, "_GATES_BYTES", 6 * size)
    store = AdapterStore(0)
    acting = bank.AdapterBank(small.unet, "unet", store)
    deltas: list[weakref.ref[Tensor]] = []
    for number in range(12):
        delta = torch.full(small.layout["unet"][layer], float(number))
        deltas.append(weakref.ref(delta))
        layers = {"unet": {layer: DenseDelta(delta)}}
        made = Adapter(f"made {number}", content_digest(layers), layers)
        store.hold(made.name, made.digest, lambda made=made: made)
        del delta, layers
        with acting.gate([((made.digest, 1.0),)]):
            pass
        del made
        store.trim(frozenset())
    assert sum(one() is not None for one in deltas) == 3  # and as many merged copies


@pytest.mark.parametrize(("weights", "wanted"), [(1 << 20, 256 << 20), (1 << 30, 1 << 30), (8 << 30, 2 << 30)])
def test_a_store_is_as_large_as_its_model_within_limits(
    weights: int, wanted: int, small_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms: list[int] = []
    monkeypatch.setattr("pipelines.model.AdapterStore", lambda most: rooms.append(most) or AdapterStore(most))
    monkeypatch.setattr("pipelines.model._bytes", lambda _: weights)
    LoadedModel.load(specs.find(str(small_folder)), torch.device("cpu"))
    assert rooms == [wanted]
