"""Many clients for a long time: jobs of all kinds, some of them cancelled, and the memory that a server takes for them.

Run by itself, it starts a server and prints a curve:

    python -m tests.ui.soak --jobs 1000 --clients 8
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from tests.ui.conftest import Server, free_port

_OPEN = ("waiting", "running")
_LOOK = 0.5  # seconds between looks at a job
_EVERY = 20  # jobs between two points of the curve
_LORAS = ("zorp", "bolt", "krag", "momo", "hoot", "neon", "blueprint", "sketch", "sepia", "reef", "moon", "volcano")
_METHODS = ("merge", "switch", "composite", "cat", "ties", "dare", "magnitude", "tsv", "w_composite", "multlfg")


@dataclass
class Soak:
    """What came of it."""

    states: Counter[str] = field(default_factory=Counter[str])
    lost: list[str] = field(default_factory=list[str])  # accepted, and then not known or without their picture
    refused: Counter[str] = field(default_factory=Counter[str])
    curve: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])  # jobs over, MB resident

    def risen(self) -> float:
        """Return by how many MB the last quarter of the curve lies above the one before it, on average."""
        quarter = len(self.curve) // 4
        megabytes = [held for _, held in self.curve]
        return fmean(megabytes[-quarter:]) - fmean(megabytes[-2 * quarter : -quarter])

    @property
    def peak(self) -> int:
        return max(megabytes for _, megabytes in self.curve)


@dataclass
class _Client:
    server: Server
    found: Soak
    numbers: Iterator[int]
    lock: threading.Lock

    def run(self) -> None:
        """Hand in one job after another, and see each of them end."""
        while True:
            with self.lock:
                number = next(self.numbers, None)
            if number is None:
                return
            job = self._submit(number)
            if number % 4 == 0:
                time.sleep(random.random())
                _ask(self.server, "DELETE", f"/medley/api/jobs/{job}")
            self._note(job, self._ended(job))

    def _submit(self, number: int) -> str:
        while True:
            status, answer = _ask(self.server, "POST", "/medley/api/jobs", {"request": request(number)})
            if status == 201:
                return str(answer["job"])
            with self.lock:
                self.found.refused[f"{status} {str(answer.get('detail'))[:60]}"] += 1
            assert status in (429, 503), answer  # full, or not able just now: the only reasons to come again
            time.sleep(_LOOK)

    def _ended(self, job: str) -> Mapping[str, Any]:
        while True:
            status, answer = _ask(self.server, "GET", f"/medley/api/jobs/{job}")
            if status != 200 or answer["state"] not in _OPEN:
                return answer if status == 200 else {"state": f"status {status}", "pictures": []}
            time.sleep(_LOOK)

    def _note(self, job: str, answer: Mapping[str, Any]) -> None:
        with self.lock:
            self.found.states[answer["state"]] += 1
            whole = answer["state"] == "cancelled" or (answer["state"] == "done" and len(answer["pictures"]) == 1)
            if not whole:
                self.found.lost.append(f"{job}: {answer['state']} {answer.get('error', '')}")
            over = sum(self.found.states.values())
            if over % _EVERY == 0:
                self.found.curve.append((over, resident(self.server)))
                sys.stderr.write(f"{over} jobs are over, {self.found.curve[-1][1]} MB\n")


def request(number: int) -> dict[str, Any]:
    """Return one of many different requests: hardly any two have the same weights."""
    own = random.Random(number)
    names = own.sample(_LORAS, own.randint(2, 3))
    adapters = [{"name": name, "weight": round(own.uniform(0.4, 1.1), 3), "words": [name]} for name in names]
    prompt = f"{', '.join(names)}, number {number}"
    shape = {"method": own.choice(_METHODS), "num_inference_steps": 2, "seed": number}
    return {"prompt": prompt, "adapters": adapters, **shape}


def soak(server: Server, jobs: int, clients: int) -> Soak:
    """Have clients hand in jobs, a quarter of which they cancel; return what came of them."""
    found, numbers, lock = Soak(), iter(range(jobs)), threading.Lock()
    threads = [threading.Thread(target=_Client(server, found, numbers, lock).run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def resident(server: Server) -> int:
    """Return the megabytes of memory that a server holds."""
    status = Path(f"/proc/{server.process.pid}/status").read_text("ascii")
    return next(int(line.split()[1]) >> 10 for line in status.splitlines() if line.startswith("VmRSS:"))


def _ask(server: Server, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(f"{server.address}{path}", data, {"content-type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=600) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def main() -> None:
    """Start a server, and tell what many clients did to it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=8)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), free_port())
        server.start()
        try:
            found = soak(server, asked.jobs, asked.clients)
        finally:
            server.stop()
    told = {"states": found.states, "lost": found.lost, "refused": found.refused, "curve": found.curve}
    sys.stdout.write(f"{json.dumps(told)}\n")


if __name__ == "__main__":
    main()
