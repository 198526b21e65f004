"""Adapters of every form come, act and go, some amid an exception: the model stays as it was, memory does not grow."""

from __future__ import annotations

import copy
import resource

import pytest
import torch

from composer.methods.ties import Ties
from lora_zoo.adapter import Adapter
from pipelines import bank
from pipelines.bank import AdapterBank
from pipelines.model import LoadedModel
from pipelines.store import AdapterStore
from tests.adapters import ATTENTION, BOTH, CONVOLUTIONS, Kind, dense_twin, random_adapter

ROOM = 1 << 20
FORMS = 4
MOST_GROWTH = 64 << 20


class Fault(Exception):
    """Something went wrong while adapters acted."""


def adapter(model: LoadedModel, number: int) -> Adapter:
    """Return an adapter of its own, of one form after the other."""
    kind = Kind(1 + number % 5, 1.0, (ATTENTION, CONVOLUTIONS)[number % 2], BOTH)
    plain = random_adapter(f"lora{number}", model.layout, kind, 1000 + number)
    return dense_twin(plain, plain.name) if number % FORMS == 1 else plain


def gate(store: AdapterStore, model: LoadedModel, number: int) -> str:
    """Bring an adapter in, weighted by block or merged with itself in turns; return what is to act."""
    made = adapter(model, number)
    digest = store.hold(made.name, made.digest, lambda: made)
    if number % FORMS == 2:
        return store.shaped(digest, {"IN01": 0.5, "MID": 0.0}, model.layout)
    if number % FORMS == 3:
        return store.merged(Ties(density=0.5), ((digest, 1.0), (digest, 0.5)))
    return digest


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def cycles(count: int, model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> int:
    """Let so many adapters come and go; return by how many bytes the second half made memory grow."""
    monkeypatch.setattr(bank, "_CALLS_BYTES", ROOM)
    monkeypatch.setattr(bank, "_GATES_BYTES", ROOM)
    unet, store = copy.deepcopy(model.unet), AdapterStore(ROOM)
    acting = AdapterBank(unet, "unet", store)
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    latents, text, half = torch.randn(2, 4, 8, 8), torch.randn(2, 77, 24), 0
    with torch.no_grad():
        base = unet(latents, 1, encoder_hidden_states=text).sample
        for number in range(count):
            if number == count // 2:
                half = peak()
            rows = (
                [((gate(store, model, number), 0.7),), ()] if number % 3 else [((gate(store, model, number), 0.7),)] * 2
            )
            try:
                with acting.gate(rows):
                    assert not torch.equal(unet(latents, 1, encoder_hidden_states=text).sample, base)
                    if number % 7 == 0:
                        raise Fault
            except Fault:
                pass
            store.trim(frozenset())
        assert torch.equal(unet(latents, 1, encoder_hidden_states=text).sample, base)
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())
    return peak() - half


def test_fifty_come_and_go(small: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    cycles(50, small, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_come_and_go(small: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cycles(1000, small, monkeypatch) < MOST_GROWTH
