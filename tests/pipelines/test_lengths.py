"""A dry run counts the calls of prompts of all lengths as a rendering makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from pipelines.engine import Engine
from pipelines.model import LoadedModel
from tests.requests import ask, uses

LONG = "a cat on a mat, " * 20
PROMPTS = ["a cat", LONG, "a cat BREAK a mat", "a cat " * 11 + "é", "[a cat:" + LONG + ":0.5]", "a (cat:1.2), " * 9]


@pytest.mark.parametrize("negative", ["", LONG])
@pytest.mark.parametrize("syntax", ["a1111", "plain"])
def test_calls_are_those_of_the_rendering(
    syntax: str, negative: str, engine: Engine, small_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [
        ask(
            str(small_folder),
            prompt=prompt,
            negative_prompt=negative,
            prompt_syntax=syntax,
            adapters=uses(2),
            method=("merge", "composite")[place % 2],
            num_inference_steps=2,
        )
        for place, prompt in enumerate(PROMPTS)
    ]
    calls: list[int] = []
    predict = LoadedModel.predict_noise

    def counted(self: LoadedModel, *inputs: Any) -> Tensor:
        calls.append(1)
        return predict(self, *inputs)

    monkeypatch.setattr(LoadedModel, "predict_noise", counted)
    cost = engine.dry_run_many(requests)
    done = engine.render_many(requests)
    assert len(calls) == cost.unet_calls
    assert sum(one.record.unet_passes for one in done) == cost.unet_passes
