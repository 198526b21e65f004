"""One real server for all attacks, and the means to send it what no browser sends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.security.attacker import Attacker
from tests.server import Server, free_port

_SERVERS = {"server", "guarded", "told"}  # fixtures that start one


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on loopback, without a password, as most run it. Attacks must leave it sound for the next one."""
    one = Server(tmp_path_factory.mktemp("attacked"), free_port())
    one.start()
    yield one
    assert one.process.poll() is None, "an attack has ended the server"
    one.stop()


@pytest.fixture(scope="session")
def attacker(server: Server) -> Attacker:
    """Somebody who can reach the server and knows no password."""
    return Attacker("127.0.0.1", server.port)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside everything that the server serves."""
    path = tmp_path / "secret.txt"
    path.write_text("the canary of the mine", "utf-8")
    return path


@pytest.hookimpl(tryfirst=True)  # before those that are left out are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what attacks a real server: `.ci/run` runs this folder in a step of its own."""
    for item in items:
        if "tests/security" in item.path.as_posix() and _SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.thorough)
