"""Weights by block and over steps, in pictures: every method is as with the deltas that the formula says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from composer import registry
from composer.blocks import of_paths, shaped, table
from composer.request import AdapterUse, RenderRequest, Schedule
from lora_zoo.adapter import Adapter, LowRank
from pipelines import specs
from pipelines.engine import Engine
from pipelines.model import LoadedModel
from pipelines.progress import StepReport
from tests.adapters import Shelf, five
from tests.requests import ask, close, final_latents, for_method

METHODS = registry.names()
BLOCKS = {"BASE": 0.5, "IN01": 0.0, "MID": 2.0, "OUT01": -0.5}


def replaced(request: RenderRequest, place: int, **fields: Any) -> RenderRequest:
    """Return a request with one of its LoRAs used otherwise."""
    uses = list(request.adapters)
    uses[place] = uses[place].model_copy(update=fields)
    return request.model_copy(update={"adapters": tuple(uses)})


def by_formula(adapter: Adapter, model: LoadedModel, digest: str) -> Adapter:
    """Return an adapter with each delta multiplied by its block's weight, one by one."""
    places = of_paths(list(model.layout["unet"]))
    layers: dict[str, dict[str, LowRank]] = {}
    for component, deltas in adapter.layers.items():
        for path, delta in deltas.items():
            assert isinstance(delta, LowRank)
            factor = BLOCKS.get(places.get(path, "") if component == "unet" else "BASE", 1.0)
            if factor:
                layers.setdefault(component, {})[path] = LowRank(delta.down, delta.up * factor)
    return Adapter(adapter.name, digest, layers)


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", METHODS)
def test_blocks_are_the_deltas_times_their_weights(
    name: str, engine: Engine, small: LoadedModel, small_folder: Path
) -> None:
    request = for_method(name, str(small_folder))
    (found,) = final_latents(engine, [replaced(request, 0, blocks=BLOCKS)])
    first, *others = five(small.layout)
    # of the same digest, since random draws follow it; in a model of its own, which keeps adapters by digest
    whole = table(BLOCKS, specs.find(str(small_folder)).blocks)
    other = by_formula(first, small, shaped(first, whole, small.layout).digest)
    twin = LoadedModel.load(specs.find(str(small_folder)), torch.device("cpu"))
    (wanted,) = final_latents(Engine(Shelf([other, *others]), load=lambda spec: twin), [request])
    assert close(found, wanted)
    assert not close(found, final_latents(engine, [request])[0])


def latents_by_step(engine: Engine, request: RenderRequest) -> list[Tensor]:
    seen: list[Tensor] = []

    def keep(report: StepReport) -> None:
        seen.append(report.pictures[0].latents)

    engine.render(request, keep)
    return seen


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", METHODS)
def test_before_its_start_a_lora_has_no_weight(name: str, engine: Engine, small_folder: Path) -> None:
    request = for_method(name, str(small_folder), scheduler="ddim")
    late = latents_by_step(engine, replaced(request, 0, schedule=Schedule(start=2)))
    without = latents_by_step(engine, replaced(request, 0, weight=0.0, text_encoder_weight=0.8))
    assert close(late[0], without[0])
    assert close(late[1], without[1])
    halves = replaced(request, 0, schedule=Schedule(curve=((0.0, 0.5),)))
    (half,) = final_latents(engine, [halves])
    assert close(half, final_latents(engine, [replaced(request, 0, weight=0.4, text_encoder_weight=0.8)])[0])


def test_a_curve_changes_what_acts_in_each_step(engine: Engine, small_folder: Path) -> None:
    both = (AdapterUse(name="lora0", weight=1.0), AdapterUse(name="lora1", weight=0.6))
    request = ask(str(small_folder), adapters=both, text_encoder_adapters="none", scheduler="ddim")
    found = latents_by_step(engine, replaced(request, 0, schedule=Schedule(curve=((0, 1.0), (2, 0.0)))))
    constant = latents_by_step(engine, replaced(request, 0, schedule=Schedule(curve=((0, 1.0),))))
    assert close(found[0], constant[0])
    assert not close(found[1], constant[1])


def test_tags_say_the_same(engine: Engine, small_folder: Path) -> None:
    names = specs.find(str(small_folder)).blocks.all
    listed = ",".join(str(BLOCKS.get(name, 1.0)) for name in names)
    tag = f"a cat on a mat <lora:lora0:0.8:lbw={listed}:step=1-2><lora:lora1:0.5@0,1@1>"
    uses = (
        AdapterUse(name="lora0", weight=0.8, blocks=BLOCKS, schedule=Schedule(start=1, stop=2)),
        AdapterUse(name="lora1", weight=1.0, text_encoder_weight=0.5, schedule=Schedule(curve=((0, 0.5), (1, 1)))),
    )
    wanted = engine.resolve(ask(str(small_folder), prompt="a cat on a mat ", adapters=uses)).request
    found = engine.resolve(ask(str(small_folder), prompt=tag)).request
    assert found == wanted
    again = engine.render(engine.render(found).record.request())
    assert again.record.pixels_sha256 == engine.render(wanted).record.pixels_sha256


@pytest.mark.parametrize(
    ("tag", "told"),
    [
        ("<lora:lora0:1:lbw=1,2>", "LoRA 'lora0': weights by block: this model takes"),
        ("<lora:lora0:1:lbw=XYZ>", "'XYZ'"),
        ("<lora:lora0:1:step=5-2>", "it begins at 5 and ends before 2, so it acts in no step"),
    ],
)
def test_mistakes_are_told_before_any_work(tag: str, told: str, engine: Engine, small_folder: Path) -> None:
    with pytest.raises(Exception, match="lora0") as raised:
        engine.resolve(ask(str(small_folder), prompt=tag))
    assert told in str(raised.value)
