"""What methods cost per step is what is published of them (T29): whole passes of the UNet, for three LoRAs."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import JsonValue

from composer.request import AdapterUse
from pipelines.engine import Engine
from pipelines.model import LoadedModel
from tests.requests import ask

_STEPS, _COUNT = 5, 3

#: Method, parameters, whole passes per step; merges of weights are in test_merging.py.
PER_STEP: list[tuple[str, dict[str, JsonValue], int]] = [
    ("merge", {}, 1),
    ("switch", {}, 1),
    ("w_switch", {"evidence": "triggers", "tail": 0}, 1),
    ("klora", {}, 1),
    ("regional", {}, 1),
    ("lora_composer", {}, 1),
    ("freefuse", {}, 1),
    ("composite", {}, _COUNT),
    ("w_composite", {}, _COUNT),
    ("multlfg", {}, _COUNT),
    ("loratorio", {}, _COUNT + 1),
    ("clora", {"refine": 0}, _COUNT + 1),
]
#: Of those that look before steps: looks in all, those with a gradient among them.
LOOKS = {
    "lora_composer": (0, 0),  # without a region it is the sum
    "freefuse": (2, 0),  # a third of five steps
    "clora": (3 * (_COUNT + 1), 3 * (_COUNT + 1)),  # steps 0 to 2 are the first half
}


@pytest.mark.parametrize(("method", "parameters", "passes"), PER_STEP)
def test_passes_per_step(
    method: str,
    parameters: dict[str, JsonValue],
    passes: int,
    engine: Engine,
    small: LoadedModel,
    small_folder: Path,
) -> None:
    adapters = tuple(AdapterUse(name=f"lora{n}", words=(word,)) for n, word in enumerate(("cat", "mat", "on")))
    request = ask(
        str(small_folder), method=method, parameters=parameters, adapters=adapters, num_inference_steps=_STEPS
    )
    rows: list[int] = []
    last = small.unet.get_submodule("conv_out")  # looks end before it
    handle = last.register_forward_hook(lambda _module, inputs, _out: rows.append(len(inputs[0])))
    try:
        record = engine.render(request).record
    finally:
        handle.remove()
    ahead = LOOKS["freefuse"][0] if method == "freefuse" else 0  # whole steps, thrown away
    assert sum(rows) == 2 * (_STEPS * passes + ahead)
    assert (record.unet_passes, record.shallow_passes) == (_STEPS * passes, 0)
    assert (record.looks, record.slopes) == LOOKS.get(method, (0, 0))


def test_clora_looks_more_often_at_each_fifth(engine: Engine, small_folder: Path) -> None:
    """At its default it looks once and 20 times more before steps 0, 4 and 8 of 20, once before the others to 9."""
    adapters = tuple(AdapterUse(name=f"lora{n}", words=(word,)) for n, word in enumerate(("cat", "mat")))
    cost = engine.dry_run(ask(str(small_folder), method="clora", adapters=adapters, num_inference_steps=20))
    assert (cost.unet_passes, cost.looks) == (20 * 3, 3 * (10 + 3 * 20))


def test_cmlora_computes_one_whole_at_a_refresh(engine: Engine, small_folder: Path) -> None:
    """In the first step all, then one in each turn; everything else is shallow."""
    adapters = tuple(AdapterUse(name=f"lora{n}") for n in range(_COUNT))
    options: dict[str, JsonValue] = {"interval": 2, "order": "named"}
    request = ask(str(small_folder), method="cmlora", adapters=adapters, parameters=options, num_inference_steps=_STEPS)
    record = engine.render(request).record
    assert (record.unet_passes, record.shallow_passes) == (_COUNT + 2, _COUNT * _STEPS - _COUNT - 2)
