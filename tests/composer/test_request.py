"""Requests and records: round trips, and what is refused."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import Field, ValidationError

from composer import registry
from composer.errors import BadParameter, BadRequest
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
        ({"adapters": [{"name": str(n)} for n in range(257)]}, "adapters: .* at most 256 items .*not 257"),
        ({"adapters": [{"name": "a" * 4097}]}, r"adapters\.0\.name: .* at most 4096 characters"),
        ({"adapters": [{"name": "a", "words": ["w" * 1001]}]}, r"adapters\.0\.words\.0: .* at most 1000 characters"),
        ({"adapters": [{"name": "a", "words": ["w"] * 101}]}, r"adapters\.0\.words: .* at most 100 items .*not 101"),
        ({f"unknown{n}": n for n in range(1000)}, "unknown key 'unknown19'.*; and 980 mistakes more$"),
        ({"adapters": [{"name": ""}]}, r"adapters\.0\.name"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"seed": -2}, "seed"),
        ({"width": 0}, "width"),
        ({"text_encoder_adapters": "some"}, "text_encoder_adapters.*'none', 'first', 'all' or 'per_lora'"),
        ({"parameters": {"x": object}}, "parameters"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_mistakes(data: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        parse_request(data)


def test_as_many_loras_as_a_request_may_name_are_compared_once_each() -> None:
    compared: list[str] = []

    class Counted(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            compared.append(self)
            return str.__eq__(self, other)

    uses = tuple(AdapterUse.model_construct(name=Counted(n)) for n in range(256))
    assert len(RenderRequest(adapters=uses).adapters) == 256
    assert len(compared) < 10 * 256


def test_describing_methods_and_pricing_is_light() -> None:
    code = (
        "import sys, composer.request, composer.registry, pipelines.specs, pipelines.schedulers, pipelines.engine\n"
        "[composer.registry.describe(name) for name in composer.registry.names()]\n"
        "print([m for m in ('torch', 'diffusers', 'transformers', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: RenderRequest(prompt=3), "prompt: Input should be a valid string (got 3)"),  # type: ignore[arg-type]
        (lambda: RenderRequest(promt="x"), "unknown key 'promt'; did you mean 'prompt'?"),  # type: ignore[call-arg]
        (lambda: AdapterUse(name=""), "name: String should have at least 1 character (got '')"),
        (lambda: REQUEST.model_copy(update={"seeed": 3}), "unknown key 'seeed'; did you mean 'seed'?"),
        (lambda: REQUEST.model_copy(update={"seed": -2}), "seed: Input should be greater than or equal to -1 (got -2)"),
        (lambda: record().model_copy(update={"secons": 1}), "unknown key 'secons'; did you mean 'seconds'?"),
        (lambda: registry.get("switch")(interval=0), "interval: Input should be greater than or equal to 1 (got 0)"),  # type: ignore[call-arg]
    ],
)
def test_mistakes_in_python_are_typed_and_told_in_a_line(make: Callable[[], object], told: str) -> None:
    """No page of pydantic's is named, in the traceback neither."""
    with pytest.raises(BadRequest) as raised:
        make()
    assert str(raised.value).startswith(told)
    shown = "".join(traceback.format_exception(raised.value))
    assert "https://" not in shown and "ValidationError" not in shown.replace("except ValidationError", "")


def test_a_methods_parameter_is_its_own_mistake() -> None:
    with pytest.raises(BadParameter):
        registry.get("switch")(interval=0)  # type: ignore[call-arg]


def test_copies_are_values_of_the_same_kind() -> None:
    copied = record().model_copy(update={"seconds": 2})
    assert (type(copied), copied.seconds, copied.request()) == (RenderRecord, 2.0, REQUEST)
    assert REQUEST.model_copy() == REQUEST and REQUEST.model_copy(update={}, deep=True) == REQUEST
    deep = REQUEST.model_copy(update={"seed": 1}, deep=True)
    assert deep.adapters == REQUEST.adapters and deep.adapters[0] is not REQUEST.adapters[0]


def cell(seen: list[type[Any]], help: str = "") -> None:
    """Define a method as a cell of a notebook does."""

    class Mine(registry.MethodModel):
        strength: float = Field(default=1.0, description=help)

    Mine.__qualname__ = "Mine"
    seen.append(registry.method("mine_of_a_notebook", "Mine")(Mine))


def test_a_cell_that_defines_a_method_can_be_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {name: registry.get(name) for name in registry.names()}
    monkeypatch.setattr(registry, "_entries", dict(vars(registry)["_entries"]))  # the others' list stays as it is
    seen: list[type[Any]] = []
    cell(seen)
    cell(seen, "how much")
    assert registry.get("mine_of_a_notebook") is seen[1] is not seen[0]
    assert registry.describe("mine_of_a_notebook").parameters[0].description == "how much"
    with pytest.raises(ValueError, match="two methods are called 'mine_of_a_notebook': Mine and Other"):
        registry.method("mine_of_a_notebook", "Other")(type("Other", (registry.MethodModel,), {}))
    assert registry.get("mine_of_a_notebook") is seen[1]
    assert {name: registry.get(name) for name in known} == known
