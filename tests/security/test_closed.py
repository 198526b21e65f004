"""Of gradio's addresses, those are open that the page needs; and which there are at all is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.engine import Engine
from tests.security.attacker import Attacker
from ui import server
from ui.service import Service
from ui.walls.routes import is_open

#: All addresses of gradio's that are closed. One that an update adds is closed too, and fails the test until it is
#: looked at and written here, or into `ui.walls.routes`.
CLOSED = """
GET /openapi.json | HEAD /openapi.json | POST /login | GET /logout | GET /gradio_api/deep_link
GET /pwa_icon | GET /pwa_icon/x | GET /monitoring | GET /monitoring/summary | GET /monitoring/x
GET /gradio_api/user | GET /gradio_api/login_check | GET /gradio_api/token | GET /gradio_api/app_id
GET /gradio_api/dev/reload | GET /gradio_api/runs | GET /gradio_api/custom_component/x/x/x/x
GET /gradio_api/proxy=x | HEAD /gradio_api/proxy=x | GET /gradio_api/file=x | HEAD /gradio_api/file=x
GET /gradio_api/file/x | POST /gradio_api/stream/x | POST /gradio_api/stream/x/close
GET /gradio_api/stream/x/x/x/playlist.m3u8 | GET /gradio_api/stream/x/x/x/x.x
GET /gradio_api/stream/x/x/x/playlist-file | POST /gradio_api/api/x | POST /gradio_api/run/x
POST /gradio_api/component_server | GET /gradio_api/queue/status | GET /gradio_api/startup-events
POST /gradio_api/process_recording | POST /gradio_api/vibe-edit | POST /gradio_api/undo-vibe-edit
GET /gradio_api/vibe-code | POST /gradio_api/vibe-code | POST /gradio_api/vibe-starter-queries
"""
OPENED = """
GET / | HEAD / | GET /config | GET /theme.css | GET /gradio_api/theme.css | GET /assets/x | GET /static/x
GET /svelte/x | GET /favicon.ico | GET /robots.txt | GET /manifest.json | GET /gradio_api/info
GET /gradio_api/openapi.json | GET /gradio_api/queue/data | GET /gradio_api/upload_progress
GET /gradio_api/heartbeat/x | GET /gradio_api/call/x/x | GET /gradio_api/call/v2/x/x | POST /gradio_api/call/x
POST /gradio_api/call/v2/x | POST /gradio_api/queue/join | POST /gradio_api/cancel | POST /gradio_api/reset
POST /gradio_api/upload
"""


#: Of `POST /gradio_api/run/x`, the one that the page sends its events to which go round the queue.
PAST_THE_QUEUE = "/gradio_api/run/predict"


def listed(text: str) -> set[str]:
    return {one.strip() for line in text.strip().splitlines() for one in line.split("|")}


def below(routes: list[Any]) -> Iterator[tuple[str, str]]:
    """Yield the methods and paths of routes, of those of routers in them, and of mounted applications."""
    for route in routes:
        inner: Any = getattr(route, "original_router", None) or getattr(route, "app", None)
        if hasattr(inner, "routes"):
            yield from below(inner.routes)
        elif hasattr(route, "methods"):
            yield from ((method, route.path) for method in route.methods or ())
        else:
            raise AssertionError(f"a route of an unknown kind: {route!r}")


def filled(path: str) -> str:
    """Return a path with something in the place of its parameters, and without a slash at its end."""
    text = "".join(part if place % 2 == 0 else "x" for place, part in enumerate(path.replace("}", "{").split("{")))
    return text.rstrip("/") or "/"


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return all addresses of the application as it is mounted, ours left out."""
    application: Any = server.build(Service(Engine(), tmp_path_factory.mktemp("routes")), server.Options())
    while not hasattr(application, "routes"):
        application = application._app
    found = {f"{method} {filled(path)}" for method, path in below(application.routes)}
    return {one for one in found if " /medley/" not in one}


def test_every_address_of_gradios_is_known(routes: set[str]) -> None:
    assert routes - listed(OPENED) - listed(CLOSED) == set(), "new: open or closed?"
    assert (listed(OPENED) | listed(CLOSED)) - routes == set(), "gone"


def test_what_is_open_is_what_is_said_to_be() -> None:
    assert {one for one in listed(OPENED) | listed(CLOSED) if is_open(*one.split(" "))} == listed(OPENED)


def test_past_the_queue_go_those_events_that_the_page_lets(attacker: Attacker) -> None:
    """Its own: to stop a job, to look at the queue. Any other would make the model work without waiting its turn."""
    assert is_open("POST", PAST_THE_QUEUE)
    events = [one for one in attacker.config()["dependencies"] if one["backend_fn"]]
    past = {one["id"] for one in events if not one["queue"]}
    assert 4 <= len(past) <= 10
    for event in events:
        asked = {"fn_index": event["id"], "data": [None] * len(event["inputs"]), "session_hash": "x"}
        status = attacker.json("POST", PAST_THE_QUEUE, asked).status
        assert (status == 404) == (event["id"] not in past), event["api_name"]
        assert attacker.json("POST", f"/gradio_api/run/{event['api_name']}", asked).status == 404


@pytest.mark.parametrize("one", sorted(listed(CLOSED)))
def test_what_is_closed_answers_that_nothing_is_there(attacker: Attacker, one: str) -> None:
    method, path = one.split(" ")
    for spelling in (path, f"{path}/", f"/{path}", path.replace("/", "//"), path.replace("_", "%5f"), f"{path}?a=b"):
        answer = attacker.ask(method, spelling, b"{}" if method == "POST" else None)
        assert answer.status == 404, spelling


@pytest.mark.parametrize("path", ["queue/data?session_hash=none", "queue/data?session_hash=", "call/render/none"])
def test_a_stream_that_nobody_asked_for_is_not_there(attacker: Attacker, path: str) -> None:
    """Gradio begins an answer and fails, which leaves pages of traceback in the log for each request."""
    assert attacker.ask("GET", f"/gradio_api/{path}").status == 404


def test_the_page_may_run_its_own_scripts_only(attacker: Attacker, tmp_path: Path) -> None:
    first, second = attacker.ask("GET", "/"), attacker.ask("GET", "/")
    policy = dict(part.strip().split(" ", 1) for part in first.headers["content-security-policy"].split(";"))
    assert "'unsafe-inline'" not in policy["script-src"] and "data:" not in policy["script-src"]
    (nonce,) = [one for one in policy["script-src"].split() if one.startswith("'nonce-")]
    given = f'<script nonce="{nonce.removeprefix(chr(39) + "nonce-").rstrip(chr(39))}"'
    assert first.text.count("<script") == first.text.count(given) > 0
    assert nonce not in second.headers["content-security-policy"]
    assert " onclick=" not in first.text
