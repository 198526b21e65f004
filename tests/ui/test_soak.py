"""A thousand jobs by eight clients: none is lost, none is stuck, and the server's memory has a bound."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from tests.ui.conftest import Server, free_port
from tests.ui.soak import soak

JOBS = 1000
BOUND = 2_700  # MB: program, model, all caches full, and what the allocator may keep
NOISE = 100  # MB between the averages of two quarters: freed memory is given back when there is enough of it


@pytest.mark.thorough
@pytest.mark.timeout(7200)
def test_a_thousand_jobs_are_all_done_in_bounded_memory(tmp_path: Path) -> None:
    server = Server(tmp_path, free_port())
    server.start()
    try:
        found = soak(server, JOBS, clients=8)
        with urllib.request.urlopen(f"{server.address}/medley/health") as answer:
            health = json.load(answer)
    finally:
        server.stop()
    assert found.lost == []
    assert sum(found.states.values()) == JOBS and set(found.states) <= {"done", "cancelled"}
    assert JOBS * 3 // 4 <= found.states["done"]
    assert (health["ready"], health["error"]) == (True, "")
    assert found.peak < BOUND, found.curve
    assert found.risen() < NOISE, found.curve
