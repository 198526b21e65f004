"""The page in a real browser: what a stranger does, from the first look to the picture that is dropped back in."""

from __future__ import annotations

import io
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.base import AXE_FILE_PATH
from PIL import Image
from playwright.sync_api import Page, expect

from lora_zoo.catalog import Catalog
from pipelines.cli import main
from pipelines.engine import Engine
from pipelines.jobs import worker
from tests.server import Server
from tests.ui.steps import choose, finished, go_to, pick_method, record_in, set_steps

Visit = Callable[..., Page]
#: Collects every preview that the page shows.
WATCH = """() => {
  window.seen = new Set();
  const look = () => document.querySelectorAll("#live .m-previews img").forEach((one) => window.seen.add(one.src));
  const all = {subtree: true, childList: true, attributes: true};
  new MutationObserver(look).observe(document.querySelector("#live"), all);
}"""
TABS = ("Compose", "Compare", "Explain", "Zoo", "Jobs and history")


@pytest.fixture(scope="module")
def tiny() -> Engine:
    return Engine()


def downloaded(page: Page, server: Server, gallery: str = "#gallery") -> bytes:
    page.wait_for_selector(f"{gallery} img")
    identity = page.locator(f"{gallery} figure").first.get_attribute("data-id")
    with urllib.request.urlopen(f"{server.address}/medley/pictures/{identity}.png") as answer:
        return answer.read()


def test_a_stranger_makes_a_picture_and_finds_it_again(
    open_page: Visit, server: Server, tiny: Engine, tmp_path: Path
) -> None:
    page = open_page()
    choose(page, "zorp", "striped_vest", "trident")
    expect(page.locator("#chosen li")).to_have_count(3)
    assert page.input_value("#prompt textarea") == "zorp, striped vest, golden trident"
    page.fill("#chosen li:nth-child(2) [data-key=weight] input[type=number]", "0.8")
    page.locator("#chosen .m-chip", has_text="one-eyed alien").click()
    page.locator("#chosen .m-handle").nth(2).press("ArrowUp")
    set_steps(page, 12)
    pick_method(page, "LoRA Composite")
    expect(page.locator("#cost")).to_contain_text("36 passes")
    expect(page.locator("#method")).to_contain_text("once per LoRA")
    page.evaluate(WATCH)
    page.locator("#prompt textarea").press("Control+Enter")
    finished(page)
    assert page.evaluate("window.seen.size") >= 3
    got = downloaded(page, server)
    record = record_in(got, tmp_path)
    assert [(use.name, use.weight) for use in record.adapters] == [
        ("zorp", 1.0),
        ("trident", 1.0),
        ("striped_vest", 0.8),
    ]
    assert (record.prompt, record.method) == ("zorp, striped vest, golden trident, one-eyed alien", "composite")
    worker.write(tiny.render(record.request()), tmp_path / "same.png")
    assert (tmp_path / "same.png").read_bytes() == got
    expect(page.locator("#details")).to_contain_text("trident at 1; striped_vest at 0.8")
    with page.expect_download() as saved:
        page.click("#save a")
    assert saved.value.path().read_bytes() == got
    page.reload()
    expect(page.locator("#chosen li")).to_have_count(3)
    expect(page.locator("#prompt textarea")).to_have_value(record.prompt)

    another = open_page()
    another.set_input_files("#drop input[type=file]", str(tmp_path / "got.png"))
    expect(another.locator("#chosen li")).to_have_count(3)
    expect(another.locator("#method input")).to_have_value("LoRA Composite")
    expect(another.locator("#remarks")).to_contain_text("Restored")


@pytest.mark.thorough
def test_a_running_picture_is_cancelled_with_the_keyboard(open_page: Visit) -> None:
    page = open_page()
    page.fill("#prompt textarea", "a meadow")
    set_steps(page, 900)
    page.click("#render")
    page.wait_for_selector("#live .m-previews img")
    page.keyboard.press("Escape")
    finished(page, state="cancelled")
    page.fill("#steps textarea, #steps input", "1")
    page.click("#render")
    finished(page)


@pytest.mark.thorough
def test_two_visitors_at_once_get_what_they_asked_for(open_page: Visit, server: Server, tmp_path: Path) -> None:
    """Each picture is, byte for byte, the one that the command line makes of the same request."""
    pages = {names: open_page() for names in (("zorp", "striped_vest", "trident"), ("momo", "neon"))}
    for names, page in pages.items():
        choose(page, *names)
        set_steps(page, 12)
    for page in pages.values():
        page.click("#render")
    for names, page in pages.items():
        finished(page)
        job = {"prompt": page.input_value("#prompt textarea"), "loras": list(names), "num_inference_steps": 12}
        (tmp_path / f"{names[0]}.jsonl").write_text(json.dumps(job))
        assert main(["batch", str(tmp_path / f"{names[0]}.jsonl"), "--out", str(tmp_path / names[0])]) == 0
        (made,) = (tmp_path / names[0]).glob("*.png")
        assert downloaded(page, server) == made.read_bytes()


@pytest.mark.thorough
def test_twenty_quick_presses_are_twenty_pictures(open_page: Visit, server: Server) -> None:
    page = open_page()
    page.fill("#prompt textarea", "twenty balls")
    set_steps(page, 1)
    page.locator("#render").evaluate("button => { for (let n = 0; n < 20; n++) button.click(); }")
    expect(page.locator("#live .m-status")).to_contain_text("waiting")
    expect(page.locator("#live .m-status")).not_to_contain_text("waiting", timeout=300_000)
    finished(page)
    page.get_by_role("tab", name="Jobs and history").click()
    page.fill("#search textarea, #search input", "twenty")
    expect(page.locator("#history figure")).to_have_count(20)


@pytest.mark.thorough
def test_methods_are_compared_and_loras_explained(open_page: Visit) -> None:
    page = open_page()
    choose(page, "zorp", "moon")
    set_steps(page, 3)
    page.get_by_role("tab", name="Compare").click()
    page.click("#compare")
    finished(page, "#compare_live")
    expect(page.locator("#compare_grid figure")).to_have_count(3)
    expect(page.locator("#compare_grid figcaption").first).to_contain_text("3 passes")
    for place in (0, 2):
        page.locator("#compare_grid .m-pick").nth(place).click()
    expect(page.locator("#compare_slider .m-ends")).to_contain_text("LoRA Composite")
    page.click("#vote button")
    page.click("#vote_ask")
    expect(page.locator("#vote_pair img")).to_have_count(2)
    page.click("#vote_left")
    expect(page.locator("#ratings tbody tr")).to_have_count(2)
    page.get_by_label("two axes").click()
    page.click("#compare")
    expect(page.locator("#compare_grid th[scope=row]")).to_have_count(3)
    assert page.locator("#compare_grid td figure").count() == 9
    page.get_by_role("tab", name="Explain").click()
    page.click("#explain")
    finished(page, "#explain_live")
    expect(page.locator("#explain_table tbody tr, #explain_table tr:has(td)")).to_have_count(2)
    expect(page.locator("#explain_pictures figure")).to_have_count(7)


@pytest.mark.thorough
def test_a_zoo_grows_by_what_is_sound_only(open_page: Visit, tmp_path: Path) -> None:
    page = open_page()
    page.get_by_role("tab", name="Zoo").click()
    good = Path("lora_zoo/files/loras/bolt.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(good[:-100])
    page.set_input_files("#upload input[type=file]", str(tmp_path / "cut.safetensors"))
    expect(page.locator(".toast-body")).to_contain_text("cut.safetensors")
    (tmp_path / "robot.safetensors").write_bytes(good)
    page.locator("#upload").get_by_role("button", name="Clear").or_(
        page.locator("#upload button[aria-label='Remove']")
    ).first.click()
    page.set_input_files("#upload input[type=file]", str(tmp_path / "robot.safetensors"))
    expect(page.locator("#upload_report")).to_contain_text("robot was added")
    page.get_by_role("tab", name="Compose").click()
    choose(page, "robot", "zorp")
    page.get_by_role("tab", name="Zoo").click()
    page.click("#check")
    expect(page.locator("#check_report img")).to_be_visible()
    page.click("#merge")
    expect(page.locator("#merge_report")).to_contain_text("energy kept")


@pytest.mark.thorough
def test_names_and_prompts_are_never_markup(open_page: Visit) -> None:
    page = open_page()
    page.fill("#prompt textarea", "<img src=x onerror=alert(1)> <b>bold</b>")
    set_steps(page, 1)
    page.click("#render")
    finished(page)
    expect(page.locator("#details")).to_contain_text("<b>bold</b>")
    page.fill("#prompt textarea", "a <lora:n&b;one:1>")
    page.click("#render")
    expect(page.locator(".toast-body")).to_contain_text("n&b;one")


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("width", "dark"),
    [(1440, True), (390, False), (1440, False), (390, True)],
)
def test_every_tab_is_readable_for_everybody(open_page: Visit, width: int, dark: bool) -> None:
    page = open_page(width=width, dark=dark, bypass_csp=True)  # axe is a script of ours, put into the page
    page.add_script_tag(content=AXE_FILE_PATH.read_text("utf-8"))
    page.click("#example")
    expect(page.locator("#chosen li")).to_have_count(3)
    for tab in TABS:
        go_to(page, tab)
        page.wait_for_timeout(2500 if tab == TABS[-1] else 300)  # the queue is looked at every two seconds
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        bad = [
            (tab, one["id"], [node["html"][:160] for node in one["nodes"][:4]])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert bad == [], json.dumps(bad, indent=1)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.thorough
def test_it_is_ready_soon_and_answers_while_it_works(open_page: Visit, server: Server) -> None:
    assert server.ready_after < 60  # a fraction of that on a machine at rest
    page = open_page()
    page.fill("#prompt textarea", "a meadow")
    set_steps(page, 300)
    page.click("#render")
    page.wait_for_selector("#live .m-previews img")
    page.get_by_role("tab", name="Jobs and history").click()
    expect(page.locator("#jobs tr[data-state=running]")).to_have_count(1)
    page.locator("#jobs tr[data-state=running] button").click()
    page.get_by_role("tab", name="Compose").click()
    finished(page, state="cancelled")


@pytest.mark.thorough
def test_a_thumbnail_is_a_small_picture(server: Server) -> None:
    digest = Catalog.load().get("zorp").sha256
    with urllib.request.urlopen(f"{server.address}/medley/thumbnails/{digest}") as answer:
        assert Image.open(io.BytesIO(answer.read())).size == (128, 128)


@pytest.mark.thorough
def test_a_box_is_drawn_for_a_method_that_looks_at_it(open_page: Visit, server: Server, tmp_path: Path) -> None:
    page = open_page()
    choose(page, "zorp", "krag")
    expect(page.locator("#boxes .m-frame")).to_be_hidden()
    pick_method(page, "Regional")
    frame = page.locator("#boxes .m-frame")
    frame.scroll_into_view_if_needed()
    area = frame.bounding_box()
    assert area is not None
    page.mouse.move(area["x"] + 2, area["y"] + 2)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] / 2, area["y"] + area["height"] - 2, steps=4)
    page.mouse.up()
    expect(page.locator("#boxes .m-box")).to_have_count(1)
    page.get_by_label("Prompt of the box of zorp").fill("zorp in a meadow")
    page.get_by_label("Prompt of the box of zorp").press("Tab")
    set_steps(page, 2)
    page.click("#render")
    finished(page)
    used = record_in(downloaded(page, server), tmp_path).adapters[0].region
    assert used is not None and used.box is not None
    assert (used.box[0], used.box[2], used.prompt) == (
        pytest.approx(0.01, abs=0.02),
        pytest.approx(0.5, abs=0.03),
        "zorp in a meadow",
    )
