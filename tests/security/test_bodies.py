"""Bodies that are too much, of too many values, or small files that are large pictures: refused, or taken in turn."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from tests.security.attacker import Attacker
from tests.server import Server

CHUNKED = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
ROUTES = ("/medley/api/jobs", "/medley/api/cost", "/gradio_api/queue/join", "/gradio_api/call/x", "/gradio_api/cancel")


@pytest.mark.parametrize("path", [*ROUTES, "/medley/held"])
def test_a_body_of_300_megabytes_is_refused_before_it_is_sent(attacker: Attacker, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {300 << 20}\r\n\r\n"
    assert attacker.raw(head.encode()).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("path", ROUTES)
def test_a_document_of_a_million_lists_is_refused(attacker: Attacker, path: str) -> None:
    wide = b'{"data": [' + b"[]," * 700_000 + b"0]}"
    answer = attacker.ask("POST", path, wide, {"Content-Type": "application/json"})
    assert (answer.status, "at most 1,000,000 values" in answer.text) == (413, True)


@pytest.mark.parametrize("path", ["/", "/config", "/medley/health"])
def test_a_body_where_none_is_expected_is_not_taken(attacker: Attacker, path: str) -> None:
    answer = attacker.ask("GET", path, bytes(70_000), {"Content-Length": "70000"})
    assert answer.status == 413


@pytest.mark.thorough
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read as Linux tells it")
def test_neither_takes_memory_that_stays(attacker: Attacker, server: Server) -> None:
    def endless() -> Iterator[bytes]:
        yield b'{"request": {"prompt": "'
        for _ in range(300):
            yield b"a" * (1 << 20)

    buffer = io.BytesIO()
    Image.new("L", (8000, 8000)).save(buffer, "PNG")
    before = resident(server)
    with suppress(OSError):  # cut off, if the answer is not read before that
        assert attacker.ask("POST", "/medley/api/cost", endless(), CHUNKED).status == 413
    with ThreadPoolExecutor(8) as visitors:
        answers = list(visitors.map(lambda _: attacker.ask("POST", "/medley/held", buffer.getvalue()), range(8)))
    assert {answer.status for answer in answers} == {200}
    assert resident(server) - before < 700 << 20  # eight of them at once would be 1.5 GB


def resident(server: Server) -> int:
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS"))) << 10
