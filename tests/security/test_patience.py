"""The server's patience, against the server itself with short limits: connections, requests, bodies and uploads."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread

import pytest
import uvicorn

from pipelines.engine import Engine
from tests.security.attacker import Attacker
from tests.ui.waiting import until
from ui import server
from ui.limits import Limits
from ui.server import Options, Patience
from ui.service import Service

SHORT = Patience(connections=24, of_one=16, at_once=6, idle=0.5, silence=0.5, incoming=300_000)


@contextmanager
def serving(folder: Path, patience: Patience, root_path: str = "") -> Iterator[Attacker]:
    """Serve on a port of its own, from a thread of this process."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        options = Options(port=port, patience=patience, root_path=root_path)
        app = server.build(Service(Engine(), folder, limits=Limits(upload=200_000)), options)
        running = uvicorn.Server(server.configured(app, options))
        thread = Thread(target=running.run, args=([listening],), daemon=True)
        thread.start()
        until(lambda: running.started)
        yield Attacker("127.0.0.1", port)
        running.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacker]:
    with serving(tmp_path_factory.mktemp("hurried"), SHORT) as found:
        yield found


@contextmanager
def connected(attacker: Attacker, data: bytes = b"") -> Iterator[socket.socket]:
    with socket.create_connection((attacker.host, attacker.port), timeout=100) as connection:
        connection.sendall(data)
        yield connection


def ended(connection: socket.socket) -> bytes:
    """Return what comes until the other side closes."""
    try:
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))
    except ConnectionResetError:
        return b""


def head(path: str, method: str = "GET", *more: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *more, "", ""]).encode()


def healthy(attacker: Attacker) -> bool:
    """Whether the server answers, once those before are gone."""
    try:
        return attacker.ask("GET", "/medley/page.js").status == 200
    except OSError:
        return False


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"GET", head("/medley/page.js")],
    ids=["nothing", "half a head", "a word", "one request, and no other"],
)
def test_a_connection_without_a_request_is_closed(hurried: Attacker, sent: bytes) -> None:
    with connected(hurried, sent) as connection:
        assert ended(connection).startswith(b"HTTP/1.1 200 " if sent.endswith(b"\r\n\r\n") else b"")


@pytest.mark.parametrize("path", ["/medley/api/cost", "/medley/held", "/gradio_api/upload", "/gradio_api/queue/join"])
def test_a_body_that_stops_is_given_up(hurried: Attacker, path: str) -> None:
    stated = ("Content-Length: 1000", "Content-Type: multipart/form-data; boundary=x")
    with connected(hurried, head(path, "POST", *stated) + b"--x\r\n") as connection:
        assert ended(connection).startswith(b"HTTP/1.1 408 ")


def test_one_address_does_not_take_all_connections(hurried: Attacker) -> None:
    """Those beyond its share are closed at once, and the others when they have said nothing for a while."""
    with ExitStack() as stack:
        idle = [stack.enter_context(connected(hurried)) for _ in range(SHORT.of_one)]
        with connected(hurried, head("/medley/page.js")) as one_more:
            assert ended(one_more) == b""
        assert [ended(connection) for connection in idle] == [b""] * SHORT.of_one
    until(lambda: healthy(hurried))


def test_streams_of_one_address_are_counted(hurried: Attacker) -> None:
    """A stream stays open as long as its page; those beyond the bound are refused, and others may come when some go."""
    with ExitStack() as stack:
        beat = [
            stack.enter_context(connected(hurried, head(f"/gradio_api/heartbeat/page{number}")))
            for number in range(SHORT.at_once)
        ]
        assert all(connection.recv(12) == b"HTTP/1.1 200" for connection in beat)
        answer = hurried.ask("GET", "/medley/page.js")
        assert (answer.status, answer.headers["retry-after"]) == (429, "5")
        beat[0].close()
        until(lambda: healthy(hurried))
    until(lambda: healthy(hurried))


def test_behind_a_proxy_streams_are_not_counted(tmp_path: Path) -> None:
    with serving(tmp_path, SHORT, "/studio") as attacker, ExitStack() as stack:
        for number in range(SHORT.at_once + 2):
            beat = stack.enter_context(connected(attacker, head(f"/gradio_api/heartbeat/page{number}")))
            assert beat.recv(12) == b"HTTP/1.1 200"
        assert attacker.ask("GET", "/medley/page.js").status == 200


def test_more_connections_than_the_server_has_are_told_to_come_back(tmp_path: Path) -> None:
    few = Patience(connections=4, of_one=100, at_once=100)
    with serving(tmp_path, few) as attacker, ExitStack() as stack:
        assert attacker.ask("GET", "/medley/page.js").status == 200
        for _ in range(few.connections):
            stack.enter_context(connected(attacker))
        until(lambda: attacker.ask("GET", "/medley/page.js").status == 503)
        stack.close()
        until(lambda: healthy(attacker))


def test_uploads_that_wait_have_a_bound(tmp_path: Path) -> None:
    """What was received and not used counts, however small the files are; the server is this test's, who fills it."""
    with serving(tmp_path, SHORT) as attacker:
        assert attacker.upload("a.jsonl", bytes(200_000 + (2 << 20))).status == 413
        (ticket,) = json.loads(attacker.upload("a.jsonl", b"{}").body)
        assert ticket.endswith("/a.jsonl")
        statuses = [attacker.upload(f"{name}.jsonl", str(name).encode() * 9).status for name in range(9)]
        assert 507 in statuses and statuses == sorted(statuses)
