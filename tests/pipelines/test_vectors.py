"""Changes to biases and normalisation layers: they act as if the parameters themselves were changed, row by row."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from composer.errors import BadRequest
from composer.masks import Box
from composer.methods.ties import Ties
from lora_zoo.adapter import Adapter
from pipelines.bank import AdapterBank, Gate
from pipelines.local import Local, Where
from pipelines.model import LoadedModel
from pipelines.store import AdapterStore
from pipelines.vectors import vector_parameters
from tests.adapters import ATTENTION, BOTH, CONVOLUTIONS, Kind, random_adapter

ROWS: tuple[Gate, ...] = ((("a", 0.7),), (("b", -0.5), ("a", 1.0)), ())


def adapter(model: LoadedModel, name: str, seed: int) -> Adapter:
    """Return an adapter of layers' weights and of every second parameter of one dimension."""
    generator = torch.Generator().manual_seed(seed)
    kind = Kind(2, 1.0, (ATTENTION, CONVOLUTIONS)[seed % 2], BOTH)
    vectors = {
        component: {
            path: 0.3 * torch.randn(p.shape, generator=generator)
            for place, (path, p) in enumerate(vector_parameters(model.component(component)).items())
            if place % 2 == seed % 2
        }
        for component in ("unet", "text_encoder")
    }
    return replace(random_adapter(name, model.layout, kind, seed), digest=name, vectors=vectors)


@pytest.fixture
def store(small: LoadedModel) -> AdapterStore:
    held = AdapterStore(1 << 30)
    for seed, name in enumerate("ab"):
        one = adapter(small, name, seed)
        held.hold(name, name, lambda one=one: one)
    return held


def changed(module: nn.Module, gate: Gate, store: AdapterStore, component: str) -> nn.Module:
    """Return a copy whose parameters are changed."""
    found = copy.deepcopy(module)
    parameters = dict(found.named_parameters())
    with torch.no_grad():
        for digest, weight in gate:
            for path, delta in store[digest].component(component).items():
                parameters[f"{path}.weight"].add_(
                    delta.dense().reshape(parameters[f"{path}.weight"].shape), alpha=weight
                )
            for path, change in store[digest].vectors[component].items():
                parameters[path].add_(change, alpha=weight)
    return found


def call(unet: nn.Module, latents: Tensor) -> Tensor:
    text = torch.randn(1, 7, 24, generator=torch.Generator().manual_seed(9)).expand(len(latents), -1, -1)
    with torch.no_grad():
        return unet(latents, 5, encoder_hidden_states=text).sample


@pytest.mark.parametrize("rows", [ROWS, ROWS * 2, ROWS[:1] * 3, ROWS[1:2]], ids=["mixed", "twice", "one", "single"])
@pytest.mark.parametrize("merged_bytes", [1 << 29, 0], ids=["merged", "added"])
def test_each_row_is_as_with_changed_parameters(
    rows: tuple[Gate, ...], merged_bytes: int, small: LoadedModel, store: AdapterStore
) -> None:
    unet, before = small.unet, small.parameter_digest()
    latents = torch.randn(len(rows), 4, 8, 8, generator=torch.Generator().manual_seed(3))
    base = call(unet, latents)
    with AdapterBank(unet, "unet", store, merged_bytes).gate(rows):
        found = call(unet, latents)
    for place, gate in enumerate(rows):
        wanted = call(changed(unet, gate, store, "unet"), latents[place : place + 1])
        torch.testing.assert_close(found[place : place + 1], wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(call(unet, latents), base)
    assert small.parameter_digest() == before
    assert not any({"weight", "bias", "forward"} & set(vars(part)) for part in unet.modules())


def test_a_lora_of_vectors_alone_acts(small: LoadedModel, store: AdapterStore) -> None:
    alone = replace(store["a"], digest="alone", layers={})
    store.hold("alone", "alone", lambda: alone)
    latents = torch.randn(2, 4, 8, 8)
    with AdapterBank(small.unet, "unet", store).gate([(("alone", 1.0),), ()]):
        found = call(small.unet, latents)
    wanted = call(changed(small.unet, (("alone", 1.0),), store, "unet"), latents)
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[1], call(small.unet, latents)[1], rtol=1e-4, atol=1e-4)


def test_blocks_count_for_vectors_too(small: LoadedModel, store: AdapterStore) -> None:
    found = store[store.shaped("a", {"MID": 0.0, "IN01": 0.5, "BASE": 0.25}, small.layout)]
    mine: Mapping[str, Tensor] = store["a"].vectors["unet"]
    for path, change in mine.items():
        if path.startswith("mid_block."):
            assert path not in found.vectors["unet"]
        else:
            factor = 0.5 if path.startswith(("down_blocks.0.resnets.0.", "down_blocks.0.attentions.0.")) else 1.0
            assert torch.equal(found.vectors["unet"][path], change * factor)
    assert any(path.startswith("mid_block.") for path in mine)
    for path, change in store["a"].vectors["text_encoder"].items():
        assert torch.equal(found.vectors["text_encoder"][path], change * 0.25)


def test_what_has_no_place_for_them_is_an_error(small: LoadedModel, store: AdapterStore) -> None:
    with pytest.raises(BadRequest, match="'a' changes biases or normalisation layers, which would be lost in a merge"):
        store.merged(Ties(density=0.5), (("a", 1.0), ("b", 1.0)))
    local = Local("a", 1.0, Where(Box(0, 0, 0.5, 1), 8, 8, 0, 1))
    with (
        pytest.raises(BadRequest, match="'a' changes .* cannot act in a region"),
        AdapterBank(small.unet, "unet", store).gate([()], [(local,)]),
    ):
        raise AssertionError("a gate was opened")
