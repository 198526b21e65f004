"""What a reload brings back: fields, choices and results of every tab that renders."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.ui.steps import choose, finished, go_to, set_steps
from ui.tabs import session

pytestmark = pytest.mark.thorough

Visit = Callable[..., Page]


@pytest.mark.thorough
def test_compare_and_explain_come_back_after_a_reload(open_page: Visit) -> None:
    page = open_page()
    choose(page, "zorp", "moon")
    set_steps(page, 2)
    page.click("#render")
    finished(page)
    expect(page.locator("#gallery figure")).to_have_count(1)
    go_to(page, "Compare")
    page.get_by_label("two axes").click()
    page.fill("#axis_y_values textarea, #axis_y_values input", "0.5,1")
    page.fill("#axis_x_values textarea, #axis_x_values input", "merge,switch")
    page.click("#compare")
    finished(page, "#compare_live")
    expect(page.locator("#compare_grid td figure")).to_have_count(4)
    go_to(page, "Explain")
    page.click("#explain")
    finished(page, "#explain_live")
    expect(page.locator("#explain_table tbody tr")).to_have_count(2)
    page.wait_for_function("() => JSON.stringify(localStorage).includes('medley-session')")
    page.wait_for_timeout(500)  # the last change is kept

    for _ in range(2):  # a second reload loses nothing either
        page.reload()
        expect(page.locator("#chosen li")).to_have_count(2)
        expect(page.locator("#gallery figure")).to_have_count(1)
        go_to(page, "Compare")
        expect(page.get_by_label("two axes")).to_be_checked()
        expect(page.locator("#axis_y_values textarea, #axis_y_values input")).to_have_value("0.5,1")
        expect(page.locator("#compare_grid td figure")).to_have_count(4)
        expect(page.locator("#compare_grid th[scope=row]")).to_have_count(2)
        go_to(page, "Explain")
        expect(page.locator("#explain_table tbody tr")).to_have_count(2)
        expect(page.locator("#explain_pictures figure")).to_have_count(7)


def test_a_session_of_another_version_is_an_empty_one() -> None:
    for kept in (None, {}, "x", {"parts": [1]}, {"draft": {"count": -1}}, {"parts": {"compare": {"jobs": 3}}}):
        assert session.read(kept) == session.Session()  # pyright: ignore[reportArgumentType]  # whatever a browser holds
