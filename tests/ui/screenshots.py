"""Pictures of every tab at two widths, light and dark, to be looked at; and of them the README's strip.

python -m tests.ui.screenshots outputs/screenshots --strip docs/ui
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from pipelines import merges
from tests.server import ROOT, Server, free_port
from tests.ui.conftest import BROWSERS, FLAGS
from tests.ui.steps import finished, go_to, pick

TABS = {"compose": "Compose", "compare": "Compare", "explain": "Explain", "zoo": "Zoo", "jobs": "Jobs and history"}
WIDTHS = (1440, 390)
_TALL = 900  # pixels of a strip's picture before it is made smaller
_SCALE = 0.62
_MOST = 150_000  # bytes of a strip's file


def main() -> None:
    parser = argparse.ArgumentParser(description="Take pictures of every tab.")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--strip", type=Path, help="where the README's strip goes")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        take(Path(place), asked.folder)
    if asked.strip is not None:
        asked.strip.mkdir(parents=True, exist_ok=True)
        for name in TABS:
            strip(asked.folder, name, asked.strip / f"{name}.webp")


def take(place: Path, folder: Path) -> None:
    """Start a server with something to show, and take all the pictures."""
    run = [sys.executable, "app.py", "eval", "run", "compos", "--methods", "merge,switch", "--sets", "1"]
    subprocess.run([*run, "--out", str(place / "outputs" / "compos")], cwd=ROOT, check=True)
    server = Server(place / "ui", free_port(), ("--reports", str(place / "outputs")))
    server.start()
    path = next(filter(None, map(shutil.which, BROWSERS)))
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
            for width in WIDTHS:
                for dark in (False, True):
                    _all_tabs(browser, server, folder, width, dark)
    finally:
        server.stop()


def shot(folder: Path, name: str, width: int, dark: bool) -> Path:
    return folder / f"{name}-{width}-{'dark' if dark else 'light'}.png"


def _all_tabs(browser: Browser, server: Server, folder: Path, width: int, dark: bool) -> None:
    view = {"width": width, "height": 900 if width > 600 else 844}
    context = browser.new_context(viewport=view, color_scheme="dark" if dark else "light")  # pyright: ignore[reportArgumentType]
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(server.address)
    page.wait_for_selector(".m-card")
    fill = {"compose": _compose, "compare": _compare, "explain": _explain, "zoo": _zoo, "jobs": _jobs}
    for name, tab in TABS.items():
        go_to(page, tab)
        fill[name](page)
        page.wait_for_timeout(400)
        page.evaluate("window.scrollTo(0, 0)")
        page.screenshot(path=shot(folder, name, width, dark), full_page=True)
    context.close()


def _compose(page: Page) -> None:
    page.click("#example")
    expect(page.locator("#chosen li")).to_have_count(3)
    page.click("#render")
    finished(page)
    page.wait_for_selector("#gallery img")


def _compare(page: Page) -> None:
    page.click("#compare")
    finished(page, "#compare_live")
    expect(page.locator("#compare_grid figure")).to_have_count(3)
    for place in (0, 2):
        page.locator("#compare_grid .m-pick").nth(place).click()
    expect(page.locator("#compare_slider .m-ends")).to_be_visible()
    page.click("#vote button")
    page.click("#vote_ask")
    expect(page.locator("#vote_pair img")).to_have_count(2)
    page.click("#vote_left")
    expect(page.locator("#vote_pair")).to_contain_text("Left was")


def _explain(page: Page) -> None:
    page.click("#explain")
    finished(page, "#explain_live")
    expect(page.locator("#explain_table tbody tr")).to_have_count(3)


def _zoo(page: Page) -> None:
    page.click("#check")
    expect(page.locator("#check_report img")).to_be_visible()
    pick(page, "merge_method", "dare_ties")
    expect(page.locator("#merge_parameters .m-field")).to_have_count(len(merges.parameters("dare_ties")))


def _jobs(page: Page) -> None:
    expect(page.locator("#jobs tbody tr").first).to_be_visible()
    expect(page.locator("#history img").first).to_be_visible()
    expect(page.locator("#reports tr[data-id]").first).to_be_visible()


def strip(folder: Path, name: str, out: Path) -> None:
    """Lay the wide light picture beside the narrow dark one, small enough for a README."""
    wide, narrow = (
        Image.open(shot(folder, name, width, dark)).convert("RGB") for width, dark in ((1440, False), (390, True))
    )
    sheet = Image.new("RGB", (wide.width + narrow.width + 20, _TALL), "white")
    sheet.paste(wide.crop((0, 0, wide.width, _TALL)), (0, 0))
    sheet.paste(narrow.crop((0, 0, narrow.width, _TALL)), (wide.width + 20, 0))
    small = sheet.resize((round(sheet.width * _SCALE), round(sheet.height * _SCALE)), Image.Resampling.LANCZOS)
    for quality in (82, 70, 55, 40):
        small.save(out, quality=quality, method=6)
        if out.stat().st_size <= _MOST:
            return
    raise SystemExit(f"{out} has more than {_MOST} bytes whatever its quality")


if __name__ == "__main__":
    main()
