"""Names that the server does not go by, and pages of other sites."""

from __future__ import annotations

import json

import pytest

from tests.security.attacker import Attacker

EVIL = "http://evil.example"
FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1.evil.example:{port}",
        "localhost.evil.example",
        "evil.example:{port}@localhost",
        "localhost:{port}:80",
        "localhost:evil",
        "[::1].evil.example",
        "[::1",
        "127.1",
        "8.8.8.8:{port}",
        "0.0.0.0:{port}",
        "2130706433",
        "",
    ],
)
def test_a_foreign_name_is_refused_everywhere(attacker: Attacker, host: str) -> None:
    for method, path in (("GET", "/"), ("GET", "/medley/health"), ("GET", "/config"), ("POST", "/medley/api/cost")):
        answer = attacker.ask(method, path, b"{}", {"Host": host.format(port=attacker.port)})
        assert answer.status == 403, path
        assert "gradio" not in answer.text


@pytest.mark.parametrize("host", ["localhost:{port}", "LOCALHOST", "127.0.0.1", "[::1]:{port}", "localhost.:{port}"])
def test_its_own_names_are_taken(attacker: Attacker, host: str) -> None:
    assert attacker.ask("GET", "/medley/health", headers={"Host": host.format(port=attacker.port)}).status == 200


def test_a_name_stated_twice_is_refused(attacker: Attacker) -> None:
    head = f"GET /medley/health HTTP/1.1\r\nHost: 127.0.0.1:{attacker.port}\r\nHost: evil.example\r\n\r\n"
    assert attacker.raw(head.encode()).startswith((b"HTTP/1.1 400", b"HTTP/1.1 403"))


WRITES = [
    ("POST", "/medley/held", b"x"),
    ("POST", "/medley/api/jobs", b'{"request": {"prompt": "a"}}'),
    ("POST", "/medley/api/cost", b'{"request": {"prompt": "a"}}'),
    ("DELETE", "/medley/api/jobs/x", None),
    ("POST", "/gradio_api/queue/join", b'{"data": [], "fn_index": 1, "session_hash": "a"}'),
    ("POST", "/gradio_api/call/loras", b'{"data": []}'),
    ("POST", "/gradio_api/upload", b"x"),
    ("POST", "/gradio_api/cancel", b"{}"),
    ("PUT", "/medley/health", b"x"),
]
OF_OTHERS: list[dict[str, str]] = [
    {"Origin": EVIL},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},  # another program on this machine
    {"Origin": "http://localhost:{port}"},  # the same one, by another name than it was asked by
    {"Origin": "http://127.0.0.1:{port}.evil.example"},
    {"Origin": "http://127.0.0.1:{port}@evil.example"},
    {"Origin": "file://"},
    {"Origin": "chrome-extension://127.0.0.1"},
    {"Origin": "garbage ["},
    {"Origin": EVIL, "X-Forwarded-Host": "evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "same-origin", "Origin": EVIL},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Content-Type": FORM},
]


@pytest.mark.parametrize("headers", OF_OTHERS, ids=json.dumps)
def test_pages_of_other_sites_write_nothing(attacker: Attacker, headers: dict[str, str]) -> None:
    told = {name: value.format(port=attacker.port) for name, value in headers.items()}
    for method, path, body in WRITES:
        answer = attacker.ask(method, path, body, {"Content-Type": "text/plain", **told})
        assert (answer.status, answer.text) == (403, "pages of other sites may not ask this of the server"), path


@pytest.mark.parametrize("upgrade", ["/", "/gradio_api/queue/join", "/medley/jobs/x"])
def test_no_socket_is_opened(attacker: Attacker, upgrade: str) -> None:
    wanted = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "eA==",
        "Sec-WebSocket-Version": "13",
    }
    for more in ({}, {"Origin": EVIL}):
        assert attacker.ask("GET", upgrade, headers={**wanted, **more}).status != 101


def test_its_own_page_writes(attacker: Attacker) -> None:
    own = f"http://127.0.0.1:{attacker.port}"
    for headers in ({"Origin": own}, {"Origin": own, "Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {}):
        assert attacker.json("POST", "/medley/api/cost", {"request": {"prompt": "a"}}, **headers).status == 200


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "POST"])
@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/info", "/medley/api/loras", "/gradio_api/queue/join"])
def test_no_answer_is_opened_to_other_sites(attacker: Attacker, method: str, path: str) -> None:
    for origin in (EVIL, "null", f"http://127.0.0.1:{attacker.port}", "http://localhost:1"):
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        answer = attacker.ask(method, path, b"{}" if method == "POST" else None, asked)
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_pictures_and_the_like_are_not_for_other_sites_pages(attacker: Attacker) -> None:
    site = {"Sec-Fetch-Site": "cross-site"}
    assert attacker.ask("GET", "/medley/health", headers={**site, "Sec-Fetch-Mode": "no-cors"}).status == 403
    assert attacker.ask("GET", "/medley/health", headers={**site, "Sec-Fetch-Mode": "cors"}).status == 403
    assert attacker.ask("GET", "/", headers={**site, "Sec-Fetch-Mode": "navigate"}).status == 200  # a link to it
