"""Keep every test off the network: a connection to anywhere but this machine is an error."""

import socket

import pytest

_LOCAL = ("127.", "::1", "localhost")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sockets reach this machine only, and tell the hub libraries not to try."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: tuple[str, int] | str) -> None:
        remote = self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(_LOCAL)
        if remote:
            raise RuntimeError(f"tests run without a network; something tried to reach {address!r}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
