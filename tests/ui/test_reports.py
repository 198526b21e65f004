"""Evaluation reports: found in the folders named, told apart from other pages, opened by id in a shut frame."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from eval import running
from eval.page import elements
from eval.running import Overrides, Wish
from tests.server import Server
from tests.ui.steps import go_to
from ui import reports
from ui.errors import NotThere

pytestmark = pytest.mark.thorough

Visit = Callable[..., Page]
WISH = Wish(suite="compos", mapped=None, sets=3, seeds=1, methods=("merge", "switch"), overrides=Overrides(), clip=None)


def run_in(folder: Path, report: str | None = "report.html") -> Path:
    """Write what `eval run` leaves behind, as far as the page looks at it."""
    folder.mkdir(parents=True)
    (folder / running.FILE).write_text(WISH.model_dump_json(), "utf-8")
    if report is not None:
        text = elements.page(elements.REPORT_TITLE, ["<h1>How LoRAs are best composed</h1>"])
        (folder / report).write_text(text, "utf-8")
    return folder


def test_reports_are_found_by_what_they_are_and_links_lead_nowhere(tmp_path: Path) -> None:
    root = tmp_path / "outputs"
    os.utime(run_in(root / "old") / "report.html", (0, 0))
    run_in(root / "benchmark" / "compos", "both.html")
    run_in(root / "going", None)
    (root / "old" / "study.html").write_text("<title>Which picture is better?</title>")
    run_in(tmp_path / "elsewhere")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "old" / "link.html").symlink_to(tmp_path / "elsewhere" / "report.html")
    os.mkfifo(root / "old" / "pipe.html")
    found = reports.found([root, tmp_path / "no such folder"])
    assert [one.name for one in found] == ["outputs/benchmark/compos/both.html", "outputs/old/report.html"]
    assert found[0].about == "compos: merge, switch, 3 sets of each size, 1 picture(s) each"
    assert reports.unwritten([root]) == ["outputs/going"]
    assert reports.find([root], found[1].id) == found[1]
    for wrong in ("", "../old/report.html", str(root / "old" / "report.html")):
        with pytest.raises(NotThere, match="no report"):
            reports.find([root], wrong)


def test_a_run_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    folder = run_in(tmp_path / "broken")
    (folder / running.FILE).write_text("{", "utf-8")
    assert "cannot be read" in reports.found([tmp_path])[0].about


def test_a_report_is_opened_in_place_and_may_do_nothing(open_page: Visit, server: Server) -> None:
    root = Path(server.options[server.options.index("--reports") + 1])
    run_in(root / "compos")
    run_in(root / "going", None)
    page = open_page()
    go_to(page, "Jobs and history")
    expect(page.locator("#reports tr[data-id]")).to_have_count(1)
    expect(page.locator("#reports")).to_contain_text("going has no report yet")
    page.click("#reports tr[data-id] button")
    frame = page.frame_locator("#reports iframe")
    expect(frame.locator("h1")).to_have_text("How LoRAs are best composed")
    identity = page.locator("#reports tr[data-id]").get_attribute("data-id")
    with urllib.request.urlopen(f"{server.address}/medley/reports/{identity}") as answer:
        policies = answer.headers.get_all("content-security-policy")
    assert any(one.startswith("sandbox;") and "default-src 'none'" in one for one in policies)
    page.click("#reports tr[data-id] button")
    expect(page.locator("#reports iframe")).to_have_count(0)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{server.address}/medley/reports/..%2f..%2fcompos%2freport.html")
