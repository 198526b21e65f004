"""What clients may call: every parameter of a wrong type is a mistake that is told, and a record's words are ours."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from composer.errors import BadRequest
from composer.request import RenderRequest
from pipelines.engine import Engine
from tests.ui.waiting import finished
from ui import rest
from ui.calls import Calls
from ui.errors import NotAllowed
from ui.service import Service

GOOD: dict[str, Any] = {"request": {"prompt": "a"}, "count": 1, "job": "0" * 32, "words": "a", "limit": 1}
GOOD |= {"handle": "zorp", "name": "zorp"}
WRONG: dict[type, tuple[object, ...]] = {
    dict: (None, -1, True, "a", [1], [["prompt", "a"]]),
    int: (None, True, 1.5, "1", [1], {"a": 1}, 0, 10**30),
    str: (None, -1, True, 1.5, [1], ["a"], {"a": 1}, "\ud800", b"a"),
}
INNER = ("accept", "price")  # of requests that are read already
CALLS = [name for name in vars(Calls) if not name.startswith("_") and name not in INNER]
CASES = [
    (name, parameter, value)
    for name in CALLS
    for parameter in list(inspect.signature(getattr(Calls, name)).parameters)[1:]
    for value in WRONG[type(GOOD[parameter])]
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    found = Service(Engine(), tmp_path_factory.mktemp("calls"))
    yield found
    found.stop()


def call(service: Service, name: str, values: dict[str, Any]) -> Any:
    done = getattr(Calls(service), name)(**values)
    return finished(done) if inspect.iscoroutine(done) else done


def test_all_calls_with_parameters_are_tried() -> None:
    assert {name for name, _, _ in CASES} == {
        *("render", "submit", "job", "cancel", "cost", "search", "remove_lora", "put_back_lora")
    }


@pytest.mark.parametrize(("name", "parameter", "value"), CASES, ids=lambda value: ascii(value)[:30])
def test_a_value_of_a_wrong_type_is_a_mistake_that_is_told(
    name: str, parameter: str, value: object, service: Service
) -> None:
    names = list(inspect.signature(getattr(Calls, name)).parameters)[1:]
    values = {each: GOOD[each] for each in names} | {parameter: value}
    with pytest.raises(BadRequest, match=f"^{parameter}( is |: )"):
        call(service, name, values)
    assert service.history.jobs() == []


REMARKED = {"prompt": "a", "remarks": ["made by somebody else"]}


@pytest.mark.parametrize("name", ["render", "submit", "cost"])
def test_remarks_are_not_a_clients(name: str, service: Service) -> None:
    with pytest.raises(NotAllowed, match="remarks: 'made by somebody else' .*leave them out"):
        call(service, name, {"request": REMARKED})
    assert service.history.jobs() == []


def test_remarks_are_not_a_clients_through_http(service: Service) -> None:
    app = FastAPI()
    rest.add(app, service)
    client = TestClient(app)
    for path in ("jobs", "cost"):
        answer = client.post(f"{rest.ROOT}/{path}", json={"request": REMARKED})
        assert answer.status_code == 422 and "leave them out" in answer.json()["detail"]
    assert service.history.jobs() == []


def test_remarks_of_ours_are_kept(service: Service) -> None:
    (request,) = service.resolve([RenderRequest(prompt="[zorp <lora:zorp:1>:b:0.5]")])
    assert request.remarks
