"""The page behind a reverse proxy: pictures, events, files and the API under a prefix, and nothing beside it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client
from playwright.sync_api import Browser, expect

from tests.server import Server, free_port
from tests.ui.conftest import visiting
from tests.ui.proxy import proxy
from tests.ui.steps import choose, finished, go_to, set_steps

pytestmark = pytest.mark.thorough
PREFIX = "/studio/medley"


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = Server(tmp_path_factory.mktemp("behind"), free_port(), ("--root-path", PREFIX))
    server.start()
    with proxy(PREFIX, server.port) as address:
        yield address
    server.stop()


def test_the_page_works_under_a_prefix(behind: str, browser: Browser, tmp_path: Path) -> None:
    with visiting(browser, behind) as visit:
        page = visit()
        expect(page.locator("#cards .m-card img").first).to_have_js_property("complete", True)
        assert page.locator("#cards .m-card img").first.evaluate("one => one.naturalWidth") == 128
        assert str(page.locator("link[rel=icon]").last.get_attribute("href")).startswith("data:image/svg+xml")
        choose(page, "zorp", "moon")
        set_steps(page, 300)  # long enough to be seen at work on a busy machine
        page.click("#render")
        page.wait_for_selector("#live .m-previews img")
        finished(page)
        with page.expect_download() as saved:
            page.click("#save a")
        saved.value.save_as(tmp_path / "got.png")
        assert (tmp_path / "got.png").read_bytes()[:4] == b"\x89PNG"
        page.set_input_files("#drop input[type=file]", str(tmp_path / "got.png"))
        expect(page.locator("#remarks")).to_contain_text("Restored")
        go_to(page, "Jobs and history")
        expect(page.locator("#jobs tr[data-state=done]")).to_have_count(1)
        expect(page.locator("#history img")).to_have_count(1)


def test_the_apis_work_under_a_prefix(behind: str) -> None:
    client = Client(behind, verbose=False, analytics_enabled=False)
    done = client.predict({"prompt": "a meadow", "num_inference_steps": 1}, 1, api_name="/render")
    assert done["state"] == "done"
    with urllib.request.urlopen(f"{behind}{done['pictures'][0]['address']}") as answer:
        assert answer.read(4) == b"\x89PNG"
    with urllib.request.urlopen(f"{behind}medley/api/loras") as answer:
        assert len(json.load(answer)["loras"]) >= 22
    with urllib.request.urlopen(behind.rstrip("/")) as answer:  # sent on to where relative addresses mean the prefix
        assert answer.url == behind


def test_nothing_is_served_beside_the_prefix(behind: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(behind.replace(PREFIX, "") + "medley/health")
