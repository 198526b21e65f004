"""The typed API by its own description: whatever is sent, the answer is one that it states, never an error of ours."""

from __future__ import annotations

from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from pipelines.engine import Engine
from ui import rest, server
from ui.limits import Limits
from ui.service import Service

_CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
_EXAMPLES = 200  # of each operation


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> server.App:
    """A server that takes jobs and does none."""
    service = Service(Engine(), tmp_path_factory.mktemp("fuzz"), limits=Limits(waiting=100_000))
    return server.build(service, server.Options(host_names=("testserver",)))  # as schemathesis calls it


@pytest.mark.thorough
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_no_request_is_answered_with_an_error_of_ours(
    application: server.App, mode: schemathesis.GenerationMode
) -> None:
    """Send what the description allows, and what it does not; a breach is raised by the case."""
    described = schemathesis.openapi.from_asgi(f"{rest.ROOT}/openapi.json", application)
    operations = [found.ok() for found in described.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) == 10
    for operation in operations:

        @settings(max_examples=_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
        @given(case=operation.as_strategy(mode))
        def send(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=_CHECKS)

        try:
            send()
        except Unsatisfiable:  # nothing that it takes can be wrong
            assert mode is schemathesis.GenerationMode.NEGATIVE and not operation.body


def ask(application: server.App, method: str, path: str, **more: object) -> tuple[int, dict[str, object]]:
    answer = TestClient(application, base_url="http://localhost").request(method, f"{rest.ROOT}{path}", **more)  # pyright: ignore[reportArgumentType]
    return answer.status_code, answer.json()


def test_each_mistake_has_its_status_and_its_words(application: server.App, tmp_path: Path) -> None:
    plain = {"prompt": "a meadow", "num_inference_steps": 1}
    status, told = ask(application, "POST", "/jobs", json={"request": plain, "count": 2})
    assert status == 201
    job = told["job"]
    status, told = ask(application, "GET", f"/jobs/{job}")
    assert (status, told["job"], told["state"], told["pictures"]) == (200, job, "waiting", [])
    assert ask(application, "DELETE", f"/jobs/{job}")[1]["state"] == "cancelled"
    nan = {"content": b'{"request": NaN}', "headers": {"content-type": "application/json"}}
    cases = [
        (404, "no job", "GET", "/jobs/none", {}),
        (
            413,
            "at most",
            "POST",
            "/jobs",
            {"json": {"request": {"num_inference_steps": 99, "width": 8192, "height": 8192}}},
        ),
        (422, "did you mean 'zorp'", "POST", "/cost", {"json": {"request": {"adapters": [{"name": "zorpp"}]}}}),
        (422, "body.request.methd", "POST", "/cost", {"json": {"request": {"methd": "merge"}}}),
        (422, "body.count", "POST", "/jobs", {"json": {"request": plain, "count": 0}}),
        (422, "count is a whole number from 1 to", "POST", "/jobs", {"json": {"request": plain, "count": 10**9}}),
        (422, "body", "POST", "/cost", nan),
        (422, "query.limit", "GET", "/pictures?limit=0", {}),
    ]
    for expected, words, method, path, sent in cases:
        status, told = ask(application, method, path, **sent)
        assert status == expected and words in str(told["detail"]), (path, status, told)


def test_a_full_queue_is_told_politely(tmp_path: Path) -> None:
    service = Service(Engine(), tmp_path, limits=Limits(waiting=1))
    busy = server.build(service, server.Options())
    order = {"json": {"request": {"prompt": "a", "num_inference_steps": 1}}}
    assert ask(busy, "POST", "/jobs", **order)[0] == 201
    status, told = ask(busy, "POST", "/jobs", **order)
    assert status == 429 and "try again in a while" in str(told["detail"])
    service.stop()
