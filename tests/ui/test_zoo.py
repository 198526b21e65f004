"""The tab of the zoo in a browser: what is taken, what is refused and why, and files made by any merge."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
from playwright.sync_api import Page, expect

from lora_zoo import formats
from pipelines import merges
from pipelines.engine import Engine
from tests.server import Server
from tests.ui import malformed
from tests.ui.steps import choose, finished, go_to, pick, set_steps

pytestmark = pytest.mark.thorough
Visit = Callable[..., Page]


def send(page: Page, file: Path) -> None:
    """Upload a file in place of the one before it."""
    clear = page.locator("#upload button[aria-label='Clear'], #upload button[aria-label='Remove']")
    if clear.count():
        clear.first.click()
    page.set_input_files("#upload input[type=file]", str(file))


def refused(page: Page) -> str:
    """Return what the newest message says, and put it away."""
    told = page.locator(".toast-body").last
    expect(told).to_be_visible()
    text = told.inner_text()
    told.locator(".toast-close").click()
    expect(page.locator(".toast-body")).to_have_count(0)
    return text


def test_each_malformed_lora_is_refused_with_its_fault(open_page: Visit, tmp_path: Path) -> None:
    page = open_page()
    go_to(page, "Zoo")
    files = malformed.write(tmp_path)
    assert len(files) == 18
    for path, fault in files.items():
        send(page, path)
        told = refused(page)
        assert path.name in told and fault in told, told
        assert str(tmp_path) not in told and "Traceback" not in told
        expect(page.locator("#upload_report")).not_to_contain_text("added")
    go_to(page, "Compose")
    for path in files:
        page.fill("#cards input[type=search]", path.stem)
        expect(page.locator("#cards .m-card")).to_have_count(0)


def test_an_odd_lora_is_taken_only_if_it_is_asked_for(open_page: Visit, tmp_path: Path) -> None:
    page = open_page()
    go_to(page, "Zoo")
    (odd,) = (path for path in malformed.write(tmp_path) if path.stem == "half-gone")
    odd = odd.rename(tmp_path / "odd-one.safetensors")  # another test looks whether the first name was taken
    send(page, odd)
    assert "Odd files too" in refused(page)
    page.get_by_label("Odd files too").check()
    send(page, odd)
    expect(page.locator("#upload_report")).to_contain_text("odd-one was added")
    expect(page.locator("#upload_report")).to_contain_text("57 of 57 modules fit")


def test_names_and_titles_of_loras_are_never_markup(open_page: Visit, tmp_path: Path) -> None:
    mark = "<img src=x onerror=alert(1)>"
    tensors = safetensors.torch.load(malformed.SOUND.read_bytes())
    with safetensors.safe_open(malformed.SOUND, "pt") as file:
        stated = file.metadata()
    hostile = {**stated, "modelspec.title": f"<b>title</b>{mark}", "modelspec.trigger_phrase": f"<i>word</i>{mark}"}
    name = f"<b>bold<b>{mark}"
    safetensors.torch.save_file(tensors, tmp_path / f"{name}.safetensors", hostile)
    (tmp_path / f"<b>broken<b>{mark}.safetensors").write_bytes(b"no LoRA")
    page = open_page()
    go_to(page, "Zoo")
    page.fill("#folder textarea, #folder input", str(tmp_path))
    page.click("#scan")
    expect(page.locator("#scan_report")).to_contain_text(f"<b>broken<b>{mark}")
    go_to(page, "Compose")
    page.fill("#cards input[type=search]", "bold")
    card = page.locator("#cards .m-card")
    expect(card).to_have_count(1)
    expect(card).to_contain_text(name)
    expect(card).to_contain_text(f"<i>word</i>{mark}")
    card.click()
    expect(page.locator("#chosen strong")).to_have_text(name)
    page.fill("#prompt textarea", "a robot")
    set_steps(page, 1)
    page.click("#render")
    finished(page)
    expect(page.locator("#details")).to_contain_text(f"{name} at 1")
    go_to(page, "Zoo")
    page.click("#check")
    expect(page.locator("#check_report li").first).to_contain_text(name)
    go_to(page, "Explain")
    page.click("#explain")
    finished(page, "#explain_live")
    expect(page.locator("#explain_table th[scope=row]")).to_have_text(name)
    go_to(page, "Jobs and history")
    expect(page.locator("#jobs tbody tr").first).to_contain_text(name)
    assert page.locator("img[src='x'], #tabs i, #tabs b").count() == 0


#: Of each merge, values of its parameters other than its defaults; every merge that takes time is given little to do.
QUICK = {
    "ziplora_trained": {"steps": "2", "pictures": "1", "sampling_steps": "2"},
    "gradient_fusion": {"steps": "2"},
    "ssr": {"steps": "2"},
}


def tell(page: Page, parameter: str, value: str) -> None:
    field = page.locator("#merge_parameters").get_by_label(parameter.replace("_", " "), exact=True)
    field.fill(value)
    field.press("Tab")


def merge_by(page: Page, method: str, name: str) -> Page:
    if page.locator("#merge_method input").input_value() != method:
        pick(page, "merge_method", method)
    expect(page.locator("#merge_method")).to_contain_text(str(merges.describe(method)["summary"])[:40])
    parameters = merges.parameters(method)
    expect(page.locator("#merge_parameters .m-field")).to_have_count(len(parameters))
    for key, value in QUICK.get(method, {}).items():
        tell(page, key, value)
    page.fill("#merge_name textarea, #merge_name input", name)
    page.click("#merge")
    expect(page.locator("#merge_report")).to_contain_text(f"{name}:")
    return page


def made(page: Page, server: Server, folder: Path) -> dict[str, str]:
    """Download what was made, check that it is a LoRA of the model, and return its metadata."""
    address = page.locator("#merge_report a").get_attribute("href")
    path = folder / "made.safetensors"
    with urllib.request.urlopen(f"{server.address}/{address}") as answer:
        path.write_bytes(answer.read())
    assert formats.read(path, Engine().model("tiny").layout).layers
    with safetensors.safe_open(path, "pt") as file:
        return dict(file.metadata())


def test_loras_are_merged_with_the_parameters_of_the_merge(open_page: Visit, server: Server, tmp_path: Path) -> None:
    page = open_page()
    choose(page, "zorp", "moon")
    go_to(page, "Zoo")
    pick(page, "merge_method", "ties")
    tell(page, "density", "0.25")
    merge_by(page, "ties", "tied")
    assert '"density": 0.25' in str(made(page, server, tmp_path))
    page.click("#merge")
    assert "there is a LoRA called 'tied' already" in refused(page)
    merge_by(page, "ssr", "routed")
    expect(page.locator("#merge_report li").first).to_be_visible()  # what the fit has measured
    expect(page.locator("#merge_prompts")).to_be_visible()
    page.fill("#merge_prompts textarea", "zorpp=a")
    page.fill("#merge_name textarea, #merge_name input", "other")
    page.click("#merge")
    assert "did you mean 'zorp'" in refused(page)


@pytest.mark.parametrize("method", merges.names())
def test_every_merge_makes_a_lora_in_the_page(method: str, open_page: Visit, server: Server, tmp_path: Path) -> None:
    page = open_page()
    choose(page, "zorp", "moon")
    go_to(page, "Zoo")
    merge_by(page, method, f"by-{method}")
    assert method in str(made(page, server, tmp_path))


def test_a_merge_at_work_is_stopped(open_page: Visit) -> None:
    page = open_page()
    choose(page, "zorp", "moon")
    go_to(page, "Zoo")
    pick(page, "merge_method", "ziplora_trained")
    tell(page, "steps", "1000")
    page.fill("#merge_name textarea, #merge_name input", "never")
    page.click("#merge")
    expect(page.locator("#merge_report")).to_contain_text(" of ")
    page.click("#merge_cancel")
    expect(page.locator("#merge_report")).to_contain_text("Cancelled; nothing was written.")
