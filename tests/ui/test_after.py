"""The page while a picture forms and afterwards: what is seen, what can be done with it, and a server that dies."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.base import AXE_FILE_PATH
from playwright.sync_api import Browser, Page, expect

from pipelines import images
from tests.server import Server, free_port
from tests.ui.steps import choose, finished, go_to, pick_method, set_steps

pytestmark = pytest.mark.thorough

Visit = Callable[..., Page]
#: Collects what the live part and the plan under it show.
SEEN = """() => {
  window.masks = new Set(); window.plans = new Set();
  const look = () => {
    const figures = document.querySelectorAll("#live .m-findings figure");
    figures.forEach((one) => window.masks.add(one.textContent + one.querySelector("img").src));
    const told = document.querySelector("#live_plan [role=img]");
    if (told) window.plans.add(told.getAttribute("aria-label"));
  };
  const all = {subtree: true, childList: true, attributes: true};
  for (const id of ["#live", "#live_plan"]) new MutationObserver(look).observe(document.querySelector(id), all);
}"""


def test_masks_are_seen_while_they_are_found(open_page: Visit) -> None:
    page = open_page()
    choose(page, "zorp", "neon")
    pick_method(page, "CLoRA")
    page.get_by_label("refine").fill("0")
    page.get_by_label("refine").press("Tab")
    set_steps(page, 20)
    page.evaluate(SEEN)
    page.click("#render")
    finished(page)
    masks = page.evaluate("[...window.masks]")
    assert len([one for one in masks if one.startswith("mask of zorp")]) > 1
    assert len([one for one in masks if one.startswith("mask of neon")]) > 1
    expect(page.locator("#live .m-findings figure")).to_have_count(0)
    expect(page.locator("#details .m-findings figure")).to_have_count(4)


def test_turns_are_drawn_as_the_prompt_decides_once_it_was_read(open_page: Visit) -> None:
    page = open_page()
    choose(page, "zorp", "neon", "moon")
    pick_method(page, "W-Switch")
    set_steps(page, 200)
    expect(page.locator("#plan")).to_contain_text("Provisional")
    expect(page.locator("#plan .m-axis span").last).to_have_text("200")
    guess = page.locator("#plan").get_by_role("img").get_attribute("aria-label")
    page.evaluate(SEEN)
    page.click("#render")
    finished(page)
    plans = page.evaluate("[...window.plans]")
    assert plans[-1] != guess and set(plans) <= {guess, plans[-1]}  # the guess is seen again only by who looks in time
    expect(page.locator("#details .m-timeline").get_by_role("img")).to_have_attribute("aria-label", plans[-1])
    expect(page.locator("#details")).to_contain_text("what the model read in the prompt")


def test_loras_are_dragged_into_order(open_page: Visit) -> None:
    page = open_page()
    choose(page, "zorp", "neon", "moon")
    handles = page.locator("#chosen .m-handle")
    handles.nth(2).scroll_into_view_if_needed()
    places = [one.bounding_box() for one in (handles.nth(2), page.locator("#chosen li").nth(0))]
    from_, to = (place for place in places if place is not None)
    page.mouse.move(from_["x"] + 5, from_["y"] + 5)
    page.mouse.down()
    page.mouse.move(to["x"] + 20, to["y"] + 4, steps=6)
    expect(page.locator("#chosen li.m-target strong")).to_have_text("zorp")
    page.mouse.up()
    expect(page.locator("#chosen strong")).to_have_text(["moon", "zorp", "neon"])
    expect(page.locator("#chosen .m-target, #chosen .m-dragged")).to_have_count(0)


def test_a_picture_goes_on_into_other_tabs_and_formats(open_page: Visit, server: Server, tmp_path: Path) -> None:
    """With its own settings, whatever stands in the fields by then."""
    page = open_page()
    choose(page, "zorp", "neon")
    set_steps(page, 2)
    page.fill("#prompt textarea", "zorp, neon glow style, on the beach")
    page.click("#render")
    finished(page)
    for suffix in ("JPG", "WEBP", "AVIF"):
        with page.expect_download() as saved:
            page.locator("#save").get_by_role("link", name=suffix, exact=True).click()
        saved.value.save_as(tmp_path / f"got.{suffix.lower()}")
        assert images.read_record(tmp_path / f"got.{suffix.lower()}").prompt == "zorp, neon glow style, on the beach"
    page.fill("#prompt textarea", "something else")
    page.locator("#chosen .m-remove").first.click()
    page.click("#send")
    expect(page.locator("#compare")).to_be_visible()
    go_to(page, "Compose")
    expect(page.locator("#chosen li")).to_have_count(2)
    expect(page.locator("#prompt textarea")).to_have_value("zorp, neon glow style, on the beach")
    page.click("#send_explain")
    page.click("#explain")
    finished(page, "#explain_live")
    expect(page.locator("#explain_table tbody tr")).to_have_count(2)
    page.set_input_files("#drop input[type=file]", str(tmp_path / "got.webp"))
    expect(page.locator("#remarks")).to_contain_text("Restored")


def test_what_is_full_of_results_is_readable_for_everybody(open_page: Visit) -> None:
    """Each tab with its results in it, at both widths, light and dark."""
    for width, dark in ((1440, False), (390, True)):
        page = open_page(width=width, dark=dark, bypass_csp=True)
        page.add_script_tag(content=AXE_FILE_PATH.read_text("utf-8"))
        page.click("#example")
        set_steps(page, 2)
        pick_method(page, "FreeFuse")
        page.click("#render")
        finished(page)
        expect(page.locator("#details .m-findings figure")).to_have_count(3)
        _check(page, "Compose", width)
        for tab, button in (("Compare", "compare"), ("Explain", "explain")):
            go_to(page, tab)
            page.click(f"#{button}")
            finished(page, f"#{button}_live")
            expect(page.locator("#compare_grid figure, #explain_table tbody tr").first).to_be_attached()
            _check(page, tab, width)
        go_to(page, "Zoo")
        page.click("#check")
        expect(page.locator("#check_report img")).to_be_visible()
        _check(page, "Zoo", width)
        go_to(page, "Jobs and history")
        page.locator("#history .m-pick").first.click()
        expect(page.locator("#history_details dl")).to_be_visible()
        _check(page, "Jobs", width)


def _check(page: Page, tab: str, width: int) -> None:
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    bad = [(tab, one["id"], [node["html"][:160] for node in one["nodes"][:4]]) for one in serious]
    assert bad == [], json.dumps(bad, indent=1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_queue_is_worked_with_and_older_pictures_are_found(open_page: Visit, tmp_path: Path) -> None:
    page = open_page()
    jobs = [{"prompt": f"queued {n}", "num_inference_steps": 100} for n in range(3)]
    jobs[0] |= {"num_inference_steps": 1000, "count": 8}  # outlasts all that is done before it is cancelled
    go_to(page, "Jobs and history")
    for n, job in enumerate(jobs):
        (tmp_path / f"{n}.jsonl").write_text(json.dumps(job))
        clear = page.locator("#batch button[aria-label='Clear'], #batch button[aria-label='Remove']")
        if clear.count():
            clear.first.click()
        page.set_input_files("#batch input[type=file]", str(tmp_path / f"{n}.jsonl"))
        expect(page.locator("#jobs tbody tr", has_text=f"{n}.jsonl")).to_have_count(1)
    page.get_by_role("button", name="Earlier: 2.jsonl").click()
    waiting = page.locator("#jobs tr[data-state=waiting]")
    expect(waiting).to_contain_text(["2.jsonl", "1.jsonl"])
    for name in ("2.jsonl", "1.jsonl", "0.jsonl"):
        page.get_by_role("button", name=f"Cancel: {name}").click()
    expect(page.locator("#jobs tr[data-state=cancelled]", has_text=".jsonl")).to_have_count(3)
    page.get_by_role("button", name="Resume: 1.jsonl").click()
    expect(page.locator("#jobs tr[data-state=done]", has_text="1.jsonl")).to_have_count(1)
    page.get_by_role("button", name="Show: 1.jsonl").click()
    expect(page.locator("#history figure")).to_have_count(1)

    (tmp_path / "many.jsonl").write_text(json.dumps({"prompt": "many dots", "num_inference_steps": 1, "count": 60}))
    page.locator("#batch button[aria-label='Clear'], #batch button[aria-label='Remove']").first.click()
    page.set_input_files("#batch input[type=file]", str(tmp_path / "many.jsonl"))
    expect(page.locator("#jobs tr[data-state=done]", has_text="many.jsonl")).to_have_count(1)
    page.fill("#search textarea, #search input", "dots many")
    expect(page.locator("#history figure")).to_have_count(48)
    page.click("#history_older button, button#history_older")
    expect(page.locator("#history figure")).to_have_count(60)
    expect(page.locator("#history_older")).to_be_hidden()


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Server]:
    one = Server(tmp_path, free_port())
    one.start()
    yield one
    one.stop()


def test_a_server_that_is_killed_comes_back_with_history_and_queue(mortal: Server, browser: Browser) -> None:
    """The page that was open goes on by itself; a reload finds everything."""
    page = browser.new_context().new_page()
    page.set_default_timeout(300_000)
    page.goto(mortal.address)
    choose(page, "zorp")
    set_steps(page, 2)
    page.click("#render")
    finished(page)
    first = page.locator("#gallery figure").get_attribute("data-id")
    set_steps(page, 300)
    page.click("#render")
    page.wait_for_selector("#live .m-previews img")
    page.click("#render")
    go_to(page, "Jobs and history")
    expect(page.locator("#jobs tr[data-state=waiting]")).to_have_count(1)
    mortal.stop(kill=True)
    mortal.start()
    page.reload()
    expect(page.locator("#chosen li")).to_have_count(1)
    expect(page.locator(f'#gallery figure[data-id="{first}"]')).to_have_count(1)
    expect(page.locator("#live .m-status")).to_contain_text("Step")
    go_to(page, "Jobs and history")
    expect(page.locator("#jobs tr[data-state=running]")).to_have_count(1)
    expect(page.locator("#jobs tr[data-state=waiting]")).to_have_count(1)
    expect(page.locator("#history figure")).to_have_count(1)
    go_to(page, "Compose")
    finished(page)
    expect(page.locator("#live .m-status")).not_to_contain_text("waiting")
    go_to(page, "Jobs and history")
    expect(page.locator("#jobs tr[data-state=done]")).to_have_count(3)
    with urllib.request.urlopen(f"{mortal.address}/medley/pictures/{first}.png") as answer:
        assert answer.read(4) == b"\x89PNG"
    page.context.close()
