"""Changes to biases and normalisation layers: they act as if the parameters themselves were changed, row by row."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from composer.errors import BadRequest
from composer.masks import Box
from composer.methods.cat import Cat
from composer.methods.svd import Svd
from composer.methods.ties import Ties
from composer.request import AdapterUse
from lora_zoo.adapter import Adapter
from pipelines import checkpoint, export
from pipelines.bank import AdapterBank, Gate
from pipelines.engine import Engine
from pipelines.local import Drawings, Local, Term, Where, local_layer
from pipelines.merges import MergeOrder
from pipelines.model import LoadedModel
from pipelines.sources import ZooSource
from pipelines.store import AdapterStore
from pipelines.vectors import vector_parameters
from tests.adapters import ATTENTION, BOTH, CONVOLUTIONS, Kind, Shelf, random_adapter
from tests.requests import ask, final_latents

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


@pytest.mark.parametrize("merge", [Cat(), Svd(rank=64)], ids=["cat", "svd"])
def test_a_merge_that_adds_up_adds_them_too(merge: Cat | Svd, small: LoadedModel, store: AdapterStore) -> None:
    members = (("a", 0.7), ("b", -0.5))
    made = store.merged(merge, members)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    bank = AdapterBank(small.unet, "unet", store)
    with bank.gate([((made, 1.0),)]):
        found = call(small.unet, latents)
    torch.testing.assert_close(found, call(changed(small.unet, members, store, "unet"), latents), rtol=1e-4, atol=1e-4)
    for component, paths in store["a"].vectors.items():
        for path, change in paths.items():
            assert torch.equal(store[made].vectors[component][path], change * 0.7)  # the other changes other ones


def test_a_merge_of_one_is_itself(store: AdapterStore) -> None:
    alone = store[store.merged(Ties(density=0.5), (("a", 0.5), ("b", 0.0)))]
    assert {c: list(paths) for c, paths in alone.vectors.items()} == {
        c: list(paths) for c, paths in store["a"].vectors.items()
    }


def test_a_merge_of_matrices_says_that_it_has_no_place_for_them(store: AdapterStore) -> None:
    with pytest.raises(BadRequest, match="'a' changes biases or normalisation .* 'ties' merges matrices alone.* cat"):
        store.merged(Ties(density=0.5), (("a", 1.0), ("b", 1.0)))


@pytest.mark.parametrize("under", [(), (("b", -0.5),)], ids=["over the base", "over another"])
def test_a_full_region_is_the_lora_and_an_empty_one_is_not_there(
    under: Gate, small: LoadedModel, store: AdapterStore
) -> None:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    full = Local("a", 0.7, Where(Box(0, 0, 1, 1), 8, 8, block=0, blocks=1))
    nowhere = Local("a", 0.7, Where(Box(0, 0, 0, 1), 8, 8, block=1, blocks=1))  # its words are not among those read
    with AdapterBank(small.unet, "unet", store).gate([under, under], [(full,), (nowhere,)]):
        found = call(small.unet, latents)
    for row, gate in enumerate(((*under, ("a", 0.7)), under)):
        wanted = call(changed(small.unet, gate, store, "unet"), latents[row : row + 1])
        torch.testing.assert_close(found[row : row + 1], wanted, rtol=1e-4, atol=1e-4)


NORMS = {"conv": nn.GroupNorm(4, 8), "tokens": nn.LayerNorm(8)}


@pytest.mark.parametrize("kind", NORMS)
def test_a_changed_normalisation_acts_in_its_part(kind: str) -> None:
    """n(x) W + b on the left, the layer's own on the right."""
    layer, generator = NORMS[kind], torch.Generator().manual_seed(5)
    shape = (1, 8, 4, 6) if kind == "conv" else (1, 24, 8)
    x, weight, bias = (torch.randn(size, generator=generator) for size in (shape, (8,), (8,)))
    where = Where(Box(0, 0, 0.5, 1), 4, 6, 0, 1)
    term = Term(0, None, 0.5, where, {"weight": weight, "bias": bias})
    with torch.no_grad():
        found = local_layer(layer, layer.forward, [term], Drawings(), reads_text=False)(x)
        other = copy.deepcopy(layer)
        other.weight += 0.5 * weight
        other.bias += 0.5 * bias
        changed, base = other(x), layer(x)
    if kind == "tokens":
        found, changed, base = (one.mT.reshape(1, 8, 4, 6) for one in (found, changed, base))
    torch.testing.assert_close(found[..., :3], changed[..., :3])
    torch.testing.assert_close(found[..., 3:], base[..., 3:])


def vectored(small: LoadedModel) -> Engine:
    """Return an engine with two LoRAs of both kinds of change."""
    return Engine(Shelf([adapter(small, name, seed) for seed, name in enumerate("ab")]), load=lambda spec: small)


def test_written_as_a_file_and_into_a_model_they_draw_the_same(
    small: LoadedModel, small_folder: Path, tmp_path: Path
) -> None:
    own = vectored(small)
    uses = (AdapterUse(name="a", weight=0.7, text_encoder_weight=0.4), AdapterUse(name="b", weight=-0.5))
    order = MergeOrder(ask(str(small_folder), method="cat", adapters=uses), dtype="float32")
    wanted = final_latents(own, [order.request])[0]
    file = export.export(own, order, tmp_path / "both.safetensors")
    alone = ask(str(small_folder), adapters=(AdapterUse(name=str(file.path)),))
    found = final_latents(Engine(ZooSource(), load=lambda spec: small), [alone])[0]
    assert float((found - wanted).abs().max()) <= 1e-4 * float(wanted.abs().max())
    model = checkpoint.export(own, replace(order, dtype=None), tmp_path / "model")
    found = final_latents(Engine(ZooSource()), [ask(str(model.path))])[0]
    assert float((found - wanted).abs().max()) <= 1e-4 * float(wanted.abs().max())
    touched = {(c, path) for one in "ab" for c, paths in own.source.load(one, {}).layers.items() for path in paths}
    vectors = (own.source.load(one, {}).vectors for one in "ab")
    touched |= {(c, path.rpartition(".")[0]) for one in vectors for c, paths in one.items() for path in paths}
    assert file.layers == model.layers == len(touched)


@pytest.mark.parametrize("method", ["ties", "ssr"])
def test_what_merges_matrices_alone_writes_nothing(
    method: str, small: LoadedModel, small_folder: Path, tmp_path: Path
) -> None:
    uses = (AdapterUse(name="a", weight=0.7), AdapterUse(name="b", weight=-0.5))
    prompts = {"a": "a cat", "b": "a mat"} if method == "ssr" else {}
    order = MergeOrder(ask(str(small_folder), method=method, adapters=uses), prompts=prompts)
    with pytest.raises(BadRequest, match=f"'a' changes biases or normalisation .* '{method}' merges matrices alone"):
        export.export(vectored(small), order, tmp_path / "both.safetensors")
    assert list(tmp_path.iterdir()) == []
