"""A real server, started as a user starts it, and a real browser that notes whatever goes wrong in a page."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright

ROOT = Path(__file__).parents[2]
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_SESSION = re.compile(r"session_hash=(\w+)")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


expect.set_options(timeout=60_000)  # on a machine at rest everything comes within a second or two


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


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    reports = tmp_path_factory.mktemp("reports")
    one = Server(tmp_path_factory.mktemp("ui"), free_port(), ("--reports", str(reports)))
    one.start()
    yield one
    one.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium. Where there is none, these tests are left out, but not where a run demands it."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        assert "MEDLEY_NEEDS_BROWSER" not in os.environ, "this run needs a Chromium, and there is none"
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=FLAGS)


@pytest.fixture
def open_page(browser: Browser, server: Server) -> Iterator[Callable[..., Page]]:
    """Open a page as a new visitor; whatever its console or the network complains of fails the test."""
    with visiting(browser, server.address) as visit:
        yield visit


@contextmanager
def visiting(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """Let visitors come to an address; whatever a page complains of, or asks for elsewhere, is an error at the end."""
    wrong: list[str] = []
    contexts: list[BrowserContext] = []
    sessions = Sessions()

    def note(error: str) -> None:
        if not harmless(error):
            wrong.append(error)

    def visit(width: int = 1440, height: int = 900, dark: bool = False) -> Page:
        scheme = "dark" if dark else "light"
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda one: note(f"{one.text} {one.location}") if one.type == "error" else None)
        page.on("pageerror", lambda error: note(str(error)))
        page.on("request", lambda one: None if own(one.url, address) else wrong.append(f"went elsewhere: {one.url}"))
        page.on("response", lambda one: wrong.append(f"{one.status} {one.url}") if one.status >= 400 else None)
        sessions.follow(page)
        page.goto(address)
        page.wait_for_selector(".m-card")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert [error for error in wrong if not sessions.was_left(error)] == []


class Sessions:
    """The sessions of gradio's that pages had before they were loaded anew.

    The server forgets a session when its page is left; a stream of it that was asked for just before is answered 404.
    """

    def __init__(self) -> None:
        self._left: set[str] = set()

    def follow(self, page: Page) -> None:
        """Note the sessions of a page; all that it had are left when it is loaded again."""
        current: set[str] = set()

        def asked(request: Request) -> None:
            if request.is_navigation_request() and request.frame == page.main_frame:
                self._left.update(current)
                current.clear()
            current.update(_SESSION.findall(request.url))

        page.on("request", asked)

    def was_left(self, error: str) -> bool:
        """Whether an error is the 404 of a stream whose page is gone."""
        return "404" in error and any(session in self._left for session in _SESSION.findall(error))


def harmless(error: str) -> bool:
    """Whether gradio's client speaks of a stream that ended because its page was left, or a browser looked for the
    icon of a host whose root is not ours before it had read that the page brings its own.
    """
    return any(one in error for one in ("AbortError", "Connection errored out", "/favicon.ico"))


def own(asked: str, address: str) -> bool:
    return asked.startswith((address, "data:", "blob:"))
