"""The bank against PEFT, against merged copies of the weights, and row by row."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from eval import peft_loop
from lora_zoo.adapter import Adapter
from pipelines.bank import AdapterBank, Gate
from pipelines.model import LoadedModel
from pipelines.store import AdapterStore
from tests import models
from tests.adapters import BOTH, CONVOLUTIONS, Kind, dense_twin, five, random_adapter

WEIGHTS = (0.8, -0.5, 1.3, 1.0, 0.6)
Inputs = tuple[Tensor, Tensor, Tensor]


class Bench:
    """A UNet with its bank, and inputs for some rows."""

    def __init__(self, model: LoadedModel, merged_bytes: int) -> None:
        self.unet: nn.Module = copy.deepcopy(model.unet)
        self.adapters = five(model.layout)
        self.store = AdapterStore(1 << 30)
        for adapter in self.adapters:
            self.hold(adapter)
        self.bank = AdapterBank(self.unet, "unet", self.store, merged_bytes)
        self.sample = model.spec.width // model.spec.latent_factor

    def hold(self, adapter: Adapter) -> None:
        self.store.hold(adapter.name, adapter.digest, lambda: adapter)

    def inputs(self, rows: int) -> Inputs:
        generator = torch.Generator().manual_seed(rows)
        config = cast(Any, self.unet).config
        latents = torch.randn(rows, config.in_channels, self.sample, self.sample, generator=generator)
        embeds = torch.randn(rows, 77, config.cross_attention_dim, generator=generator)
        return latents, torch.randint(0, 1000, (rows,), generator=generator), embeds

    @torch.no_grad()
    def call(self, inputs: Inputs) -> Tensor:
        latents, timesteps, embeds = inputs
        return self.unet(latents, timesteps, encoder_hidden_states=embeds, return_dict=False)[0]

    def gated(self, inputs: Inputs, rows: Sequence[Gate]) -> Tensor:
        with self.bank.gate(rows):
            return self.call(inputs)

    def gate(self, *places: int) -> Gate:
        return tuple((self.adapters[place].digest, WEIGHTS[place]) for place in places)


@pytest.fixture(scope="module", params=["sd15", "small"])
def model(request: pytest.FixtureRequest) -> LoadedModel:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=[0, 1 << 30], ids=["added", "merged"])
def bench(request: pytest.FixtureRequest, model: LoadedModel) -> Bench:
    return Bench(model, request.param)


def close(found: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> bool:
    return float((found - wanted).abs().max()) <= tolerance


@pytest.mark.sampled(1)
@pytest.mark.parametrize("places", [(1,), (0, 1, 2), (0, 1, 2, 3, 4)], ids=str)
def test_one_gate_equals_peft(bench: Bench, places: tuple[int, ...]) -> None:
    twin: Any = copy.deepcopy(bench.unet)
    peft_loop.load(twin, [bench.adapters[place] for place in places])
    names = [bench.adapters[place].name for place in places]
    twin.set_adapters(names, [WEIGHTS[place] for place in places])
    inputs = bench.inputs(2)
    latents, timesteps, embeds = inputs
    with torch.no_grad():
        wanted = twin(latents, timesteps, encoder_hidden_states=embeds, return_dict=False)[0]
    found = bench.gated(inputs, [bench.gate(*places)] * 2)
    assert close(found, wanted)
    assert not close(found, bench.call(inputs), 1e-2)  # the adapters do something


@pytest.mark.sampled(3)
@pytest.mark.parametrize("places", [(1,), (0, 1, 2), (0, 1, 2, 3, 4)], ids=str)
def test_one_gate_equals_merged_weights(bench: Bench, places: tuple[int, ...]) -> None:
    merged = copy.deepcopy(bench.unet)
    for place in places:
        for path, delta in bench.adapters[place].component("unet").items():
            weight = cast(Tensor, merged.get_submodule(path).weight)
            weight.add_(delta.dense().reshape(weight.shape), alpha=WEIGHTS[place])
    inputs = bench.inputs(3)
    latents, timesteps, embeds = inputs
    with torch.no_grad():
        wanted = merged(latents, timesteps, encoder_hidden_states=embeds, return_dict=False)[0]
    assert close(bench.gated(inputs, [bench.gate(*places)] * 3), wanted)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "rows",
    [
        [(0,), (1,), (2,)],
        [(0,), (), (0, 1, 2, 3, 4), (2,)],
        [(0, 1), (2,), (0, 1), (2,)],
        [(), (), (1,)],
        [(3,), (3,), (4, 3), (4, 3)],
    ],
    ids=str,
)
def test_rows_that_differ_equal_row_by_row(bench: Bench, rows: list[tuple[int, ...]]) -> None:
    inputs = bench.inputs(len(rows))
    found = bench.gated(inputs, [bench.gate(*places) for places in rows])
    for place, places in enumerate(rows):
        latents, timesteps, embeds = (tensor[place : place + 1] for tensor in inputs)
        alone = bench.gated((latents, timesteps, embeds), [bench.gate(*places)])
        assert close(found[place : place + 1], alone), places


def test_whole_deltas_equal_factors(bench: Bench) -> None:
    twins = [dense_twin(adapter, f"dense {adapter.name}") for adapter in bench.adapters[:3]]
    for twin in twins:
        bench.hold(twin)
    inputs = bench.inputs(4)
    first, second, third = (twin.digest for twin in twins)
    dense: list[Gate] = [((first, 0.8), (second, -0.5)), ((third, 1.3),)]
    low = [bench.gate(0, 1), bench.gate(2)]
    mixed: list[Gate] = [(low[0][0], dense[0][1]), low[1]]
    wanted = bench.gated(inputs, low * 2)
    assert close(bench.gated(inputs, dense * 2), wanted)
    assert close(bench.gated(inputs, mixed * 2), wanted)
    first = cast(Inputs, tuple(tensor[:1] for tensor in inputs))
    assert close(bench.gated(first, dense[:1]), wanted[:1])


def test_outside_a_gate_the_model_is_the_base(bench: Bench) -> None:
    inputs = bench.inputs(2)
    before, state = bench.call(inputs), {k: v.clone() for k, v in bench.unet.state_dict().items()}
    for rows in ([bench.gate(1)] * 2, [bench.gate(0), bench.gate(2)], [(), ()]):
        bench.gated(inputs, rows)
        with pytest.raises(ZeroDivisionError), bench.bank.gate(rows):
            assert bench.unet.state_dict().keys() == state.keys()
            assert all(torch.equal(v, state[k]) for k, v in bench.unet.state_dict().items())
            raise ZeroDivisionError
        assert torch.equal(bench.call(inputs), before)
    assert torch.equal(bench.gated(inputs, [(), ()]), before)
    zero: Gate = tuple((digest, 0.0) for digest, _ in bench.gate(0, 1))
    assert torch.equal(bench.gated(inputs, [zero, zero]), before)


def test_gates_do_not_nest(bench: Bench) -> None:
    with bench.bank.gate([()]), pytest.raises(RuntimeError, match="nest"), bench.bank.gate([()]):
        pass
    with bench.bank.gate([()]):
        pass


def test_nothing_is_left_on_the_modules(bench: Bench) -> None:
    before = [(set(vars(module)), len(module._forward_hooks)) for module in bench.unet.modules()]
    for rows in ([bench.gate(0, 1, 2)] * 2, [bench.gate(1), bench.gate(4)]):
        bench.gated(bench.inputs(2), rows)
        with bench.bank.gate(rows):
            assert [(set(vars(module)), len(module._forward_hooks)) for module in bench.unet.modules()] != before
        assert [(set(vars(module)), len(module._forward_hooks)) for module in bench.unet.modules()] == before


def test_half_precision_stays_close(small: LoadedModel) -> None:
    bench = Bench(small, 0)
    inputs = bench.inputs(2)
    rows = [bench.gate(1), bench.gate(2)]
    wanted = bench.gated(inputs, rows)
    low = Bench(small, 0)
    low.unet.to(torch.bfloat16)
    latents, timesteps, embeds = inputs
    found = low.gated((latents.bfloat16(), timesteps, embeds.bfloat16()), rows)
    assert found.dtype == torch.bfloat16
    assert close(found.float(), wanted, 0.15 * float(wanted.abs().max()))


@pytest.mark.parametrize("count", [1, 3])
def test_text_encoders_too(model: LoadedModel, count: int) -> None:
    kinds = [Kind(4, 2.0, components=BOTH), Kind(2, 6.0, CONVOLUTIONS, BOTH), Kind(5, 5.0, r"q_proj", BOTH)]
    adapters = [random_adapter(f"text{n}", model.layout, kind, 90 + n) for n, kind in enumerate(kinds[:count])]
    encoder = copy.deepcopy(model.text_encoder)
    merged = copy.deepcopy(encoder)
    store = AdapterStore(1 << 30)
    for adapter in adapters:
        store.hold(adapter.name, adapter.digest, lambda adapter=adapter: adapter)
        for path, delta in adapter.component("text_encoder").items():
            cast(Tensor, merged.get_submodule(path).weight).add_(delta.dense(), alpha=0.7)
    gate: Gate = tuple((adapter.digest, 0.7) for adapter in adapters)
    ids = torch.randint(0, 256, (2, 77), generator=torch.Generator().manual_seed(0))
    bank = AdapterBank(encoder, "text_encoder", store)
    with torch.no_grad():
        wanted = merged(ids)[0]
        with bank.gate([gate, gate]):
            assert close(encoder(ids)[0], wanted)
        with bank.gate([(), gate]):
            mixed = encoder(ids)[0]
        assert close(mixed[1:], wanted[1:])
        assert close(mixed[:1], encoder(ids)[0][:1])


def test_the_small_tokenizer_reads_any_text(small: LoadedModel) -> None:
    assert models.tokenizer()("Grüße, 猫 at 7!")["input_ids"]
    assert small.encode("Grüße, 猫 at 7!", ()).embeds.shape == (1, 77, 24)
