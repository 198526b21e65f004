"""A real server, started as a user starts it, in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass
class Server:
    """A server in a process of its own."""

    data: Path
    port: int
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] = field(init=False)
    ready_after: float = 0.0  # seconds from the command to the first answer

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "app.py", "ui", "--port", str(self.port), "--data", str(self.data), *self.options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MEDLEY_CACHE": str(self.data / "cache")}
        started = time.perf_counter()
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment)
        while not self.answers():
            assert self.process.poll() is None and time.perf_counter() - started < 100, "the server did not come up"
            time.sleep(0.05)
        self.ready_after = time.perf_counter() - started

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/medley/health", timeout=5):
                return True
        except urllib.error.HTTPError as error:
            return error.code == 401
        except OSError:
            return False

    def stop(self, kill: bool = False) -> None:
        if kill:
            self.process.kill()
        else:
            self.process.terminate()
        self.process.wait(timeout=30)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
