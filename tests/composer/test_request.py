"""Requests and records: round trips, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from composer.errors import BadRequest
from composer.record import RenderRecord
from composer.request import AdapterUse, RenderRequest, parse_request

REQUEST = RenderRequest(
    method="switch",
    parameters={"interval": 3},
    adapters=(AdapterUse(name="a", weight=0.8), AdapterUse(name="b")),
    prompt="a cat",
    width=64,
    seed=2**62,
    text_encoder_adapters="per_lora",
)


def record(**fields: Any) -> RenderRecord:
    facts: dict[str, Any] = {
        "versions": {"torch": "2"},
        "dtype": "float32",
        "device": "cpu",
        "rows_per_call": 2,
        "unet_passes": 3,
        "unet_calls": 3,
        "seconds": 0.5,
        "pixels_sha256": "0" * 64,
    }
    return RenderRecord(**{**REQUEST.model_dump(), **facts, **fields})


def test_json_round_trip() -> None:
    assert RenderRequest.model_validate_json(REQUEST.model_dump_json()) == REQUEST
    assert parse_request(REQUEST.model_dump()) == REQUEST


def test_a_record_gives_its_request_back() -> None:
    kept = RenderRecord.model_validate_json(record(notices=("cut",)).model_dump_json())
    assert kept == record(notices=("cut",))
    assert kept.request() == REQUEST
    assert type(kept.request()) is RenderRequest


def test_requests_are_values() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        REQUEST.seed = 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"metod": "merge"}, "unknown key 'metod'; did you mean 'method'"),
        ({"guidance_scale": float("nan")}, "guidance_scale.*finite"),
        ({"guidance_scale": 0.5}, "guidance_scale.*greater than or equal to 1.*got 0.5"),
        ({"adapters": [{"name": "a", "weight": float("inf")}]}, r"adapters\.0\.weight"),
        ({"adapters": [{"name": "a", "weight": float("nan")}]}, r"adapters\.0\.weight"),
        ({"adapters": [{"name": "a", "wait": 1}]}, r"adapters\.0\.wait"),
        ({"adapters": [{"name": "a"}, {"name": "b"}, {"name": "a"}]}, "named more often: a"),
        ({"adapters": [{"name": ""}]}, r"adapters\.0\.name"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"seed": -2}, "seed"),
        ({"width": 0}, "width"),
        ({"text_encoder_adapters": "some"}, "text_encoder_adapters.*'none', 'first', 'all' or 'per_lora'"),
        ({"parameters": {"x": object}}, "parameters"),
    ],
    ids=str,
)
def test_mistakes(data: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        parse_request(data)


def test_describing_methods_and_pricing_is_light() -> None:
    code = (
        "import sys, composer.request, composer.registry, pipelines.specs, pipelines.schedulers, pipelines.engine\n"
        "[composer.registry.describe(name) for name in composer.registry.names()]\n"
        "print([m for m in ('torch', 'diffusers', 'transformers', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
