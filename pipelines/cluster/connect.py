"""Joining a cluster, or starting one of this machine alone."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from pipelines.cluster.errors import NoCluster

LOCAL, AUTO = "local", "auto"
_PLACE = re.compile(r"[^\s/:]+:\d{1,5}|\[[\da-fA-F:]+\]:\d{1,5}")
_PATIENCE = 10.0  # seconds
_INSTALL = "install requirements-cluster.txt, the same on every machine"


def check(address: str) -> None:
    """Refuse an address that cannot be one, and any without Ray, before work starts."""
    if address not in (LOCAL, AUTO) and not _PLACE.fullmatch(address):
        raise NoCluster(
            f"--ray {address!r} is no cluster; give {LOCAL} to start one here, {AUTO} for the one that this machine "
            "belongs to, or the HOST:PORT that `ray start --head` told"
        )
    if find_spec("ray") is None:
        raise NoCluster(f"--ray needs Ray, which is not installed; {_INSTALL}")


@contextmanager
def cluster(address: str) -> Iterator[Any]:
    """Join the cluster at an address, or start one that ends with this; return Ray, and leave at the end.

    What Ray would tell its makers of its use is switched off.
    """
    check(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = import_module("ray")
    own = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"} if address == LOCAL else {}
    before = signal.getsignal(signal.SIGTERM)
    try:
        if address not in (LOCAL, AUTO):
            _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise NoCluster(f"cannot join the cluster at {address!r}: {error}") from error
    try:
        signal.signal(signal.SIGTERM, before)  # Ray has put one of its own in its place
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise an OSError where nobody listens: Ray would wait for minutes."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
