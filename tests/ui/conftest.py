"""A real server for the whole session, and a real browser that notes whatever goes wrong in a page."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright

from tests.server import Server, free_port

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


expect.set_options(timeout=300_000)  # on a machine at rest everything comes within a second or two


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

    def visit(width: int = 1440, height: int = 900, dark: bool = False, bypass_csp: bool = False) -> Page:
        scheme = "dark" if dark else "light"
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, bypass_csp=bypass_csp
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(300_000)
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
