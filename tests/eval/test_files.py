"""What evaluations write: kept pictures, summaries, sheets, the report."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from composer.request import AdapterUse, RenderRequest
from eval import base, outputs, report, sheets
from eval.errors import NoResults
from eval.gallery import Gallery
from eval.sheets import Row
from pipelines.engine import Engine
from pipelines.sheet import Tile

BASE = base.Summary(3, "ddim", 0.9, 0.95, 0.8, 0.5, {"colour": 0.9})


@pytest.fixture
def asked(small_folder: Path) -> list[RenderRequest]:
    plain = RenderRequest(model=str(small_folder), prompt="a cat", num_inference_steps=2)
    return [plain, plain.model_copy(update={"seed": 1}), plain.model_copy(update={"seed": 1})]


def test_pictures_are_rendered_once(tmp_path: Path, engine: Engine, asked: list[RenderRequest]) -> None:
    told: list[int] = []
    gallery = Gallery(tmp_path, engine)
    first = gallery.render(asked, told.append)
    assert sum(told) == 3 and len(list(tmp_path.iterdir())) == 2
    times = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    again = Gallery(tmp_path, engine).render(asked, told.append)
    assert [one.record for one in first] == [one.record for one in again]
    assert [one.image.tobytes() for one in first] == [one.image.tobytes() for one in again]
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == times
    assert sum(told) == 6


def test_what_decides_a_picture_decides_its_file(tmp_path: Path, engine: Engine, asked: list[RenderRequest]) -> None:
    changes = [{}, {"seed": 5}, {"prompt": "on"}, {"adapters": (AdapterUse(name="lora0"),)}, {"method": "switch"}]
    changes[-1] |= {"adapters": (AdapterUse(name="lora0"),)}
    gallery = Gallery(tmp_path, engine)
    paths = {gallery.path(asked[0].model_copy(update=change)) for change in changes}
    assert len(paths) == len(changes)
    assert gallery.path(asked[0].model_copy(update={"guidance_scale": 7.5})) == gallery.path(asked[0])


def test_a_summary_comes_back_as_it_was(tmp_path: Path) -> None:
    outputs.write_summary(BASE, tmp_path / "new" / "base.json")
    assert outputs.read_summary(base.Summary, tmp_path / "new" / "base.json") == BASE


def test_a_missing_summary_says_what_writes_it(tmp_path: Path) -> None:
    with pytest.raises(NoResults, match="python -m eval base"):
        outputs.read_summary(base.Summary, tmp_path / "base.json")


def test_a_bare_sheet_is_nothing_but_pictures(tmp_path: Path) -> None:
    page = sheets.bare([Image.new("RGB", (8, 8), (200, 0, 0))] * 6, columns=3, scale=2)
    assert page.size == (8 + 3 * 24, 8 + 2 * 24)
    outputs.write_sheet(page, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as read:
        assert read.convert("RGB").getpixel((8, 8)) == (200, 0, 0)


def test_words_make_a_row_taller() -> None:
    picture = Image.new("RGB", (32, 32))
    bare = sheets.page([Row("", (Tile("", "", picture),) * 4)])
    worded = sheets.page([Row("four pictures", (Tile("title", "note", picture),) * 4)])
    assert worded.width == bare.width
    assert worded.height == bare.height + 3 * 16


def test_pictures_of_different_sizes_do_not_cover_each_other() -> None:
    tiles = tuple(Tile("", "", Image.new("RGB", (side, side), colour)) for side, colour in ((8, "red"), (4, "blue")))
    page = sheets.page([Row("", tiles)], scale=2)
    assert page.size == (8 + 2 * 24, 8 + 24)
    assert (page.getpixel((23, 23)), page.getpixel((32, 8))) == ((255, 0, 0), (0, 0, 255))


def test_a_report_keeps_the_words_around_its_tables(tmp_path: Path) -> None:
    out, docs = tmp_path / "out", tmp_path / "docs"
    outputs.write_summary(BASE, out / "base.json")
    outputs.write_sheet(sheets.bare([Image.new("RGB", (8, 8))], 1), out / "base.png")
    document = report.run(out, docs)
    assert {file.name for file in (docs / "figures").iterdir()} == {"base.json", "base.png"}
    written = document.read_text()
    assert "figures/base.png" in written and "90.0 %" in written
    document.write_text(f"{written.replace('90.0 %', 'old')}\nA last word.\n")
    report.run(out, docs)
    assert document.read_text() == f"{written}\nA last word.\n"


def test_a_report_on_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoResults):
        report.run(tmp_path, tmp_path / "docs")
    assert not (tmp_path / "docs").exists()


def test_a_marker_without_its_end_is_refused() -> None:
    with pytest.raises(NoResults, match="/eval:base"):
        report.updated("<!-- eval:base -->", {"base": "table"})


def test_words_under_a_picture_are_no_wider_than_it() -> None:
    picture = Image.new("RGB", (32, 32))
    short, long = (sheets.page([Row("", (Tile("a", note, picture),) * 2)]) for note in ("b", "no zorp, " * 9))
    assert long.width == short.width and long.height > short.height
    right = long.crop((long.width - 8, 0, long.width, long.height))  # the margin beside the last picture
    assert right.getextrema() == ((255, 255),) * 3
    between = long.crop((8 + 64, 80, 8 + 64 + 8, long.height))
    assert between.getextrema() == ((255, 255),) * 3
