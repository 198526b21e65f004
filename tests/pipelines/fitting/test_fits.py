"""Fits on a small model: what is heard, what is solved from it in which order, and what training does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
import torch
from pydantic import JsonValue
from torch import Tensor, nn
from torch.nn import functional as F

from composer import registry
from composer.merges.cat import cat
from composer.merges.common import Weighted
from composer.merges.regression import Regression
from lora_zoo.adapter import Adapter, LowRank
from pipelines.fitting import FITS
from pipelines.fitting.base import Fitted, Member, strengthened
from pipelines.fitting.studio import Sketch, Studio, listening
from pipelines.model import LoadedModel
from pipelines.progress import unwatched
from tests.adapters import five

PROMPTS = ("a cat", "on a mat", "a dog")
QUICK: dict[str, dict[str, JsonValue]] = {
    "gradient_fusion": {"steps": 2},
    "ssr": {"steps": 2},
    "ziplora_trained": {"steps": 6, "learning_rate": 0.02, "overlap": 0.0, "pictures": 1, "sampling_steps": 2},
}


def members(small: LoadedModel, *places: int) -> list[Member]:
    """Return members that differ in rank and coverage; 0, 2 and 4 reach the text encoder, 1 and 2 convolutions."""
    shelf = five(small.layout)
    return [Member(shelf[place], PROMPTS[n]) for n, place in enumerate(places)]


def fitted(name: str, small: LoadedModel, some: Sequence[Member], **changed: JsonValue) -> Fitted:
    fit = registry.checked(FITS[name], name, {**QUICK[name], **changed})
    return fit.fit(Studio(small), some, unwatched)


def dense(layers: Fitted | Adapter) -> dict[tuple[str, str], Tensor]:
    return {(c, path): delta.dense() for c, paths in layers.layers.items() for path, delta in paths.items()}


def summed(some: Sequence[Member]) -> dict[tuple[str, str], Tensor]:
    return dense(cat([Weighted(one.adapter, 1.0) for one in some]))


def close(found: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> bool:
    return float((found - wanted).abs().max()) <= tolerance


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", FITS)
def test_every_layer_at_the_sum_of_its_ranks_and_the_base_untouched(name: str, small: LoadedModel) -> None:
    some = members(small, 0, 1, 2)
    before, state = small.parameter_digest(), torch.get_rng_state()
    found = fitted(name, small, some)
    assert dense(found).keys() == summed(some).keys()
    for component, paths in found.layers.items():
        for path, delta in paths.items():
            parts = [cast(LowRank, p) for one in some if (p := one.adapter.component(component).get(path))]
            assert (delta.rank, delta.down.shape[1:]) == (sum(p.rank for p in parts), parts[0].down.shape[1:])
            assert torch.isfinite(delta.dense()).all()
    assert found.measured["error"] < found.measured["error_of_the_sum"]
    assert small.parameter_digest() == before and torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in small.unet.parameters())
    assert not any(module._forward_pre_hooks for module in small.unet.modules())


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", FITS)
def test_the_same_again(name: str, small: LoadedModel) -> None:
    some = members(small, 0, 4)
    first, second = dense(fitted(name, small, some)), dense(fitted(name, small, some))
    assert all(torch.equal(first[target], second[target]) for target in first)
    other = dense(fitted(name, small, some, seed=5))
    assert not all(close(first[target], other[target], 1e-6) for target in first)


@pytest.mark.parametrize("name", ["gradient_fusion", "ssr"])
def test_one_lora_does_what_it_does(name: str, small: LoadedModel) -> None:
    """On what was heard there is nothing to reconcile; gradient fusion's delta may differ on what was not."""
    some = members(small, 2)
    found = fitted(name, small, some, ridge=1e-10)
    assert found.measured["error"] < 1e-4
    if name == "ssr":
        wanted = summed(some)
        heard = {target: delta for target, delta in dense(found).items() if "to_q" in target[1]}
        assert heard and all(close(delta, wanted[target], 1e-3) for target, delta in heard.items())


def test_what_is_heard_of_a_layer_is_what_its_weight_meets(small: LoadedModel) -> None:
    paths = ("down_blocks.0.resnets.0.conv1", "down_blocks.0.downsamplers.0.conv", "mid_block.resnets.0.conv2")
    layers = {("unet", path): cast(nn.Conv2d, small.unet.get_submodule(path)) for path in paths}
    inputs, outputs = dict[tuple[str, str], Tensor](), dict[tuple[str, str], Tensor]()
    hooks = [
        layer.register_forward_hook(lambda _m, _i, out, target=target: outputs.update({target: out}))
        for target, layer in layers.items()
    ]
    with torch.no_grad(), listening(layers, lambda target, rows: inputs.update({target: rows})):
        small.predict_noise(torch.randn(2, 4, 8, 8), torch.tensor([5, 500]), torch.randn(2, 77, 24))
    for hook in hooks:
        hook.remove()
    for target, layer in layers.items():
        wanted = outputs[target].flatten(2).mT.flatten(0, 1)
        assert close(F.linear(inputs[target], layer.weight.flatten(1), layer.bias), wanted, 1e-4)


def test_keys_and_values_are_solved_on_the_prompt_that_the_fused_text_encoder_reads(small: LoadedModel) -> None:
    some = members(small, 0, 2)
    found = fitted("gradient_fusion", small, some, ridge=1e-3)
    path = next(path for path in found.layers["unet"] if path.endswith("attn2.to_k"))
    fused = Adapter("fused", "f" * 64, {"text_encoder": found.layers["text_encoder"]})
    equations = Regression({n: cast(LowRank, one.adapter.component("unet")[path]) for n, one in enumerate(some)}, False)
    with torch.no_grad():
        gate = Studio(small).gate([fused])
        for place, one in enumerate(some):
            equations.see(place, small.encode(one.prompt, gate).embeds[0])
    assert close(dense(found)["unet", path], equations.solve(1e-3).dense(), 1e-4)


def test_convolutions_are_solved_within_the_rows_of_the_members(small: LoadedModel) -> None:
    """Where there is one stage only, gradient fusion does with them what SSR does, and more with other layers."""
    some: list[Member] = []
    for one in members(small, 1, 2):
        kept = {path: delta for path, delta in one.adapter.component("unet").items() if "resnets" in path}
        some.append(Member(Adapter(one.adapter.name, one.adapter.digest[::-1], {"unet": kept}), one.prompt))
    fusion, routed = dense(fitted("gradient_fusion", small, some)), dense(fitted("ssr", small, some))
    same = {target for target, delta in fusion.items() if close(delta, routed[target], 1e-4)}
    assert same == {target for target, delta in fusion.items() if delta.shape[2:] == (3, 3)}
    assert len(same) < len(fusion)


@pytest.mark.thorough
def test_without_steps_training_gives_the_sum(small: LoadedModel) -> None:
    some = members(small, 0, 2)
    found = fitted("ziplora_trained", small, some, steps=0)
    assert all(close(delta, summed(some)[target]) for target, delta in dense(found).items())
    assert found.measured["moved"] == 0 and found.measured["error"] == found.measured["error_of_the_sum"]


def coefficients(found: LowRank, original: LowRank, rows: slice) -> Tensor:
    """Return the m of a member from what became of its down."""
    down, before = found.down[rows].flatten(1), original.down.flatten(1)
    return (down * before).sum(0) / before.square().sum(0)


def test_the_penalty_takes_columns_apart(small: LoadedModel) -> None:
    some = members(small, 0, 2)
    found = fitted("ziplora_trained", small, some, overlap=100.0, learning_rate=0.1)
    shared = [path for path in some[0].adapter.component("unet") if path in some[1].adapter.component("unet")]
    for path in shared:
        first, second = (cast(LowRank, one.adapter.component("unet")[path]) for one in some)
        merged = found.layers["unet"][path]
        m = coefficients(merged, first, slice(0, 4)), coefficients(merged, second, slice(4, 12))
        assert float(F.cosine_similarity(*m, dim=0).abs()) < 0.999
    alone = next(path for path in some[1].adapter.component("unet") if path not in shared)
    assert close(dense(found)["unet", alone], some[1].adapter.component("unet")[alone].dense())
    assert found.measured["moved"] > 0.1


def test_weights_are_folded_in_and_none_is_nothing(small: LoadedModel) -> None:
    one = five(small.layout)[0]
    strong = strengthened(one, -0.5, 2.0)
    path = next(iter(one.component("unet")))
    text = next(iter(one.component("text_encoder")))
    assert close(strong.component("unet")[path].dense(), -0.5 * one.component("unet")[path].dense())
    assert close(strong.component("text_encoder")[text].dense(), 2.0 * one.component("text_encoder")[text].dense())
    assert strengthened(one, 1.0, 0.0).layers.keys() == {"unet"} and strengthened(one, 0.0, 0.0).layers == {}
    assert len({strengthened(one, *pair).digest for pair in ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0))}) == 3


def test_drawing_is_rendering(small: LoadedModel, small_folder: Path) -> None:
    one = members(small, 1)[0]
    studio = Studio(small)
    first, other = (studio.draw(one.adapter, Sketch("a cat", 2, seed, 1.0)) for seed in (0, 1))
    assert first.shape == (1, 4, 8, 8) and not close(first, other, 1e-2)
    assert close(first, studio.draw(one.adapter, Sketch("a cat", 2, 0, 1.0)))
