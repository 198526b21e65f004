"""The first tab beyond its first look: what acts when, painted masks, and the fields behind "More"."""

from __future__ import annotations

import base64
import io
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.base import AXE_FILE_PATH
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from composer.record import RenderRecord
from composer.request import RenderRequest
from tests.server import Server
from tests.ui.steps import choose, finished, pick_method, record_in, set_steps

pytestmark = pytest.mark.thorough

Visit = Callable[..., Page]
#: Collects every step that is marked in the plan of the job under way.
MARKED = """() => {
  window.marked = new Set();
  const plan = document.querySelector("#live_plan");
  const look = () => plan.querySelectorAll(".m-now").forEach((one) => window.marked.add(one.getAttribute("x")));
  new MutationObserver(look).observe(plan, {subtree: true, childList: true, attributes: true});
}"""


def stroke(page: Page, on: Locator, *points: tuple[float, float]) -> None:
    """Draw with the mouse over something, from point to point, as parts of its width and height."""
    on.scroll_into_view_if_needed()
    area = on.bounding_box()
    assert area is not None
    places = [(area["x"] + across * area["width"], area["y"] + down * area["height"]) for across, down in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


def picture_of(address: str | None) -> np.ndarray:
    """Return an inline picture's grey values, 0 to 1."""
    assert address is not None and address.startswith("data:image/png;base64,")
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as found:
        return np.asarray(found.convert("L"), np.float64) / 255


def rendered(page: Page, server: Server, folder: Path) -> RenderRecord:
    """Press the button, and return the record of the picture that comes; its file is got.png."""
    before = page.locator("#gallery figure").count() and page.locator("#gallery figure").get_attribute("data-id")
    page.click("#render")
    expect(page.locator(f'#gallery figure:not([data-id="{before or ""}"])')).to_have_count(1)
    finished(page)
    identity = page.locator("#gallery figure").get_attribute("data-id")
    with urllib.request.urlopen(f"{server.address}/medley/pictures/{identity}.png") as answer:
        return record_in(answer.read(), folder)


def test_what_acts_in_which_step_is_seen_before_during_and_after(open_page: Visit) -> None:
    page = open_page()
    choose(page, "zorp", "moon")
    expect(page.locator("#plan .m-line svg")).to_have_count(2)
    set_steps(page, 40)
    pick_method(page, "LoRA Switch")
    page.get_by_label("interval").fill("10")
    page.get_by_label("interval").press("Tab")
    drawing = page.locator("#plan").get_by_role("img")
    expect(drawing).to_have_attribute(
        "aria-label", "zorp: 1 in steps 1 to 10 and 21 to 30; moon: 1 in steps 11 to 20 and 31 to 40"
    )
    page.evaluate(MARKED)
    page.click("#render")
    expect(page.locator("#live_plan .m-line svg")).to_have_count(2)
    finished(page)
    marked = {int(place) for place in page.evaluate("[...window.marked]")}
    assert len(marked) >= 5 and marked <= {-2, *range(40)}
    expect(page.locator("#live_plan")).to_be_hidden()
    expect(page.locator("#details").get_by_role("img", name="zorp: 1 in steps 1 to 10")).to_be_visible()
    pick_method(page, "CMLoRA")
    expect(page.locator("#plan polyline")).to_have_count(2)
    expect(page.locator("#plan")).to_contain_text("kept in an earlier step")


def test_a_mask_is_painted_in_a_frame_of_the_pictures_shape(open_page: Visit, server: Server, tmp_path: Path) -> None:
    page = open_page()
    choose(page, "zorp", "krag")
    pick_method(page, "Regional")
    set_steps(page, 2)
    page.fill("#width textarea, #width input", "128")
    page.fill("#height textarea, #height input", "64")
    page.locator("#height textarea, #height input").blur()
    page.get_by_role("button", name="Paint masks").click()
    paper = page.locator("#boxes canvas")
    expect(paper).to_have_attribute("width", "256")
    expect(paper).to_have_attribute("height", "128")
    area = page.locator("#boxes .m-frame").bounding_box()
    assert area is not None and area["width"] / area["height"] == pytest.approx(2.0, rel=0.03)
    stroke(page, paper, (0.1, 0.1), (0.1, 0.9))
    expect(page.locator("#boxes .m-boxrow").first).to_contain_text("painted")
    red, green, blue, ink = paper.evaluate("view => [...view.getContext('2d').getImageData(26, 64, 1, 1).data]")
    assert (ink, blue) == (255, 0xEB) and blue > green > red  # the first LoRA's colour
    page.locator("#boxes .m-boxrow .m-chip", has_text="krag").click()
    paper.focus()
    for key in ("ArrowRight",) * 3 + (" ",) + ("Shift+ArrowRight",) * 3:
        page.keyboard.press(key)
    record = rendered(page, server, tmp_path)
    masks = [picture_of(use.region.mask if use.region else None) for use in record.adapters]
    assert [mask.shape for mask in masks] == [(16, 32)] * 2  # of the latents
    assert masks[0][:, 3].min() > 0.9 and masks[0][:, 8:].max() == 0
    assert masks[1][8, 19:25].min() > 0.9 and masks[1][:, :16].max() == 0
    page.locator("#boxes .m-boxrow .m-chip", has_text="zorp").click()
    page.get_by_role("button", name="Erase").click()
    stroke(page, paper, (0.1, 0.1), (0.1, 0.3))
    erased = picture_of(_region_mask(rendered(page, server, tmp_path)))
    assert erased[:3, 3].max() < 0.1 and erased[12, 3] > 0.9

    another = open_page()
    another.set_input_files("#drop input[type=file]", str(tmp_path / "got.png"))
    expect(another.locator("#remarks")).to_have_text("Restored.")
    expect(another.locator("#boxes .m-masked")).to_have_count(2)
    again = rendered(another, server, tmp_path)
    assert np.array_equal(picture_of(_region_mask(again)), erased)
    another.get_by_role("button", name="Paint masks").click()
    page.locator("#boxes .m-boxrow .m-remove").first.click()
    expect(page.locator("#boxes .m-boxrow").first).to_contain_text("everywhere")


def _region_mask(record: RenderRecord) -> str | None:
    region = record.adapters[0].region
    return None if region is None else region.mask


def test_pictures_begin_with_a_picture_and_are_painted_anew_in_part(
    open_page: Visit, server: Server, tmp_path: Path
) -> None:
    tiles = np.kron(np.arange(48).reshape(6, 8) * 5, np.ones((8, 8)))
    Image.fromarray(np.stack([tiles, 255 - tiles, tiles], -1).astype(np.uint8)).save(tmp_path / "start.jpg")
    page = open_page()
    choose(page, "zorp")
    set_steps(page, 4)
    page.click("#more button")
    page.set_input_files("#start input[type=file]", str(tmp_path / "start.jpg"))
    paper = page.locator("#start canvas")
    expect(paper).to_be_visible()
    page.get_by_label("How much is made anew, from 0 to 1").fill("0.5")
    page.get_by_label("How much is made anew, from 0 to 1").press("Tab")
    expect(page.locator("#cost")).to_contain_text("2 passes")
    stroke(page, paper, (0.9, 0.1), (0.9, 0.9))
    record = rendered(page, server, tmp_path)
    assert record.start is not None and (record.width, record.height, record.start.strength) == (64, 48, 0.5)
    made = np.asarray(Image.open(tmp_path / "got.png").convert("RGB"), np.int64)
    begun = np.asarray(Image.open(io.BytesIO(base64.b64decode(record.start.image.partition(",")[2]))), np.int64)
    mask = picture_of(record.start.mask)
    assert mask.shape == (192, 256) and mask[96, 230] > 0.9 and mask[:, :180].max() == 0
    assert np.abs(made - begun[..., :3])[:, :40].max() == 0 < np.abs(made - begun[..., :3])[:, 56:].max()
    page.reload()
    expect(page.locator("#chosen li")).to_have_count(1)
    page.click("#more button")
    expect(page.locator("#start .m-frame img")).to_have_attribute("src", re.compile("^medley/held/[0-9a-f]{64}.png$"))
    expect(page.locator("#start .m-frame img")).to_have_js_property("naturalWidth", 64)

    another = open_page()
    another.set_input_files("#drop input[type=file]", str(tmp_path / "got.png"))
    expect(another.locator("#remarks")).to_have_text("Restored.")
    assert rendered(another, server, tmp_path).pixels_sha256 == record.pixels_sha256


def test_blocks_steps_and_a_second_pass_are_asked_for_and_restored(
    open_page: Visit, server: Server, tmp_path: Path
) -> None:
    page = open_page()
    choose(page, "zorp", "moon")
    set_steps(page, 4)
    page.locator("#chosen summary").first.click()
    page.get_by_label("weights by block of zorp").fill("IN03:0.25,MID:0")
    page.get_by_label("acts in steps of zorp").fill("1-4")
    page.get_by_label("curve over the steps of zorp").fill("1@0,0.5@1")
    page.get_by_label("curve over the steps of zorp").press("Tab")
    page.click("#more button")
    page.get_by_label("second pass").check()
    page.get_by_label("scale", exact=True).fill("1.5")
    page.get_by_label("scale", exact=True).press("Tab")
    page.get_by_label("undesired", exact=True).fill("fog")
    page.get_by_label("undesired", exact=True).press("Tab")
    expect(page.locator("#plan")).to_contain_text("From step 5 on: the second pass")
    record = rendered(page, server, tmp_path)
    one = record.adapters[0]
    assert isinstance(one.blocks, dict) and (one.blocks["IN03"], one.blocks["MID"], one.blocks["OUT02"]) == (0.25, 0, 1)
    assert one.schedule is not None and (one.schedule.start, one.schedule.stop) == (1, 4)
    assert one.schedule.curve == ((0, 1), (1, 0.5))
    assert record.hires is not None and (record.hires.scale, record.undesired) == (1.5, "fog")
    page.get_by_label("weights by block of zorp").fill("IN99:1")
    page.get_by_label("weights by block of zorp").press("Tab")
    expect(page.locator("#cost .m-error")).to_contain_text("no block 'IN99'")

    another = open_page()
    another.set_input_files("#drop input[type=file]", str(tmp_path / "got.png"))
    expect(another.locator("#remarks")).to_have_text("Restored.")
    expect(another.locator("#chosen summary").first).to_have_text("blocks and steps (3 set)")
    assert rendered(another, server, tmp_path).pixels_sha256 == record.pixels_sha256


def test_a_picture_made_is_begun_with(open_page: Visit, server: Server, tmp_path: Path) -> None:
    page = open_page()
    choose(page, "zorp")
    set_steps(page, 2)
    first = rendered(page, server, tmp_path)
    page.click("#begin")
    expect(page.locator("#start .m-frame img")).to_be_visible()
    page.get_by_label("How much is made anew, from 0 to 1").fill("0")
    page.get_by_label("How much is made anew, from 0 to 1").press("Tab")
    second = rendered(page, server, tmp_path)
    assert second.start is not None and second.start.sha256 == first.pixels_sha256
    assert RenderRequest.model_fields["seed"].default == second.seed


@pytest.mark.parametrize(("width", "dark"), [(390, True), pytest.param(1440, False, marks=pytest.mark.thorough)])
def test_what_is_folded_away_is_readable_for_everybody(
    open_page: Visit, tmp_path: Path, width: int, dark: bool
) -> None:
    Image.new("RGB", (64, 48), "teal").save(tmp_path / "start.png")
    page = open_page(width=width, dark=dark, bypass_csp=True)
    page.add_script_tag(content=AXE_FILE_PATH.read_text("utf-8"))
    choose(page, "zorp", "moon")
    page.locator("#chosen summary").first.click()
    pick_method(page, "Regional")
    page.get_by_role("button", name="Paint masks").click()
    stroke(page, page.locator("#boxes canvas"), (0.2, 0.2), (0.4, 0.6))
    page.click("#more button")
    page.set_input_files("#start input[type=file]", str(tmp_path / "start.png"))
    expect(page.locator("#start canvas")).to_be_visible()
    expect(page.locator("#plan")).to_contain_text("In a part of the picture only")
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    serious = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
    assert serious == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
