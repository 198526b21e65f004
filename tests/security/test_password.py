"""A server with a password: nothing without it, guesses cost time, and nobody sees it in the list of processes."""

from __future__ import annotations

import base64
import subprocess
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from tests.security.attacker import Attacker
from tests.security.test_closed import CLOSED, OPENED, listed
from tests.server import Server, free_port

OURS = (
    "/medley/page.js",
    "/medley/health",
    "/medley/pictures/x.png",
    "/medley/pictures/x.webp",
    "/medley/jobs/x",
    "/medley/held",
    "/medley/held/x.png",
    "/medley/thumbnails/x",
    "/medley/loras/x",
    "/medley/reports/x",
    "/medley/api/jobs",
    "/medley/api/jobs/x",
    "/medley/api/cost",
    "/medley/api/pictures",
    "/medley/api/loras",
    "/medley/api/methods",
    "/medley/api/limits",
    "/medley/api/openapi.json",
    "/medley/api/nothing",
    "/nothing",
)
METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")


def spelled(path: str) -> Iterator[str]:
    """Yield ways to write a path which something on the way may take for it."""
    yield path
    yield f"/{path}"
    yield path.replace("/", "//")
    yield f"/.{path}"
    yield f"/medley/..{path}"
    yield f"/studio{path}"  # as behind a proxy
    yield "".join(f"%{ord(sign):02x}" if sign != "/" else sign for sign in path)
    yield path.replace("/", "%2f")
    yield f"{path}%00"
    yield f"{path}?authorization=Basic%20YQ=="


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("guarded")
    file = folder / "auth"
    file.write_text("ada:s\u00e9cret\n", "utf-8")
    one = Server(folder / "data", free_port(), ("--auth-file", str(file)))
    one.start()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def outside(guarded: Server) -> Attacker:
    return Attacker("127.0.0.1", guarded.port)


def basic(text: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


@pytest.mark.timeout(600)  # some thousand requests
def test_nothing_is_answered_without_the_password(outside: Attacker) -> None:
    """Every address, by every method, however it is spelled, answers 401 and nothing else."""
    paths = sorted({one.split(" ")[1] for one in listed(OPENED) | listed(CLOSED)} | set(OURS))
    asked = list(dict.fromkeys(product(METHODS, (one for path in paths for one in spelled(path)))))
    statuses = outside.many(asked)
    print(f"{len(statuses):,} combinations of method and address")  # noqa: T201  for who runs it with -s
    assert len(statuses) >= 3444
    wrong = [(status, *one) for status, one in zip(statuses, asked, strict=True) if status != 401]
    assert wrong == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": ""},
        {"Authorization": "Basic"},
        {"Authorization": "Bearer x"},
        {"authorization": "Basic !!!"},
        {"X-Forwarded-User": "ada"},
        {"X-Original-URL": "/medley/health"},
        {"Cookie": "access-token=x"},
    ],
)
def test_other_ways_in_are_none(outside: Attacker, headers: dict[str, str]) -> None:
    answer = outside.ask("GET", "/medley/api/loras", headers=headers)
    assert answer.status in (401, 429)
    assert "zorp" not in answer.text


def test_who_knows_it_comes_in(outside: Attacker) -> None:
    """After wrong ones of the tests before, it may be a while until it is looked at."""
    while (answer := outside.ask("GET", "/medley/health", headers=basic("ada:s\u00e9cret"))).status == 429:
        time.sleep(float(answer.headers["retry-after"]))
    assert answer.status == 200


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are listed as Linux lists them")
def test_the_password_is_not_in_the_list_of_processes(guarded: Server) -> None:
    shown = Path(f"/proc/{guarded.process.pid}/cmdline").read_bytes()
    assert b"--auth-file" in shown and b"cret" not in shown
    listing = subprocess.run(["ps", "-ef"], capture_output=True, check=False).stdout
    assert "s\u00e9cret".encode() not in listing
