"""What visitors of the page do, in the words of the tests."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect

from composer.record import RenderRecord
from pipelines import images


def set_steps(page: Page, steps: int) -> None:
    if not page.locator("#steps textarea, #steps input").is_visible():
        page.click("#settings button")
    page.fill("#steps textarea, #steps input", str(steps))


def choose(page: Page, *names: str) -> None:
    for name in names:
        page.fill("#cards input[type=search]", name)
        page.locator("#cards .m-card", has_text=name).first.click()
    page.fill("#cards input[type=search]", "")


def pick_method(page: Page, title: str) -> None:
    pick(page, "method", title)


def pick(page: Page, field: str, option: str) -> None:
    page.click(f"#{field} input")
    page.get_by_role("option", name=option, exact=True).click()


def finished(page: Page, part: str = "#live", state: str = "done") -> None:
    expect(page.locator(f"{part} .m-status")).to_have_attribute("data-state", state, timeout=300_000)


def go_to(page: Page, tab: str) -> None:
    """Open a tab; on a narrow page it may be in the menu of those that have no room."""
    if page.get_by_role("tab", name=tab).is_visible():
        page.get_by_role("tab", name=tab).click()
    else:
        page.locator(".overflow-menu > button").click()
        page.locator(".overflow-dropdown button", has_text=tab).click()


def record_in(data: bytes, folder: Path) -> RenderRecord:
    (folder / "got.png").write_bytes(data)
    return images.read_record(folder / "got.png")
