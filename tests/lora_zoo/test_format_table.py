"""The page of file formats says what is so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lora_zoo import format_table
from tests.lora_zoo.format_rows import FAMILIES, ROWS, Format
from tests.lora_zoo.format_table import ABOUT

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
#: LyCORIS' modules, one per layer, take their time.
QUICK = [row for row in ROWS if "LyCORIS" not in row.title and row.title not in ("DoRA", "OFT", "BOFT")]


def cells() -> dict[str, list[str]]:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    return {title: found for title, *found in rows[1:]}


def test_the_page_has_every_row() -> None:
    assert PAGE.read_text("utf-8").startswith(ABOUT)
    assert list(cells()) == [row.title for row in ROWS]


@pytest.mark.parametrize("row", QUICK, ids=lambda row: row.title)
def test_sd15_is_read_as_the_page_says(row: Format) -> None:
    assert format_table.ours(row, "SD1.5") == cells()[row.title][0]
    assert cells()[row.title][0].startswith("exact" if row.read_here else "refused")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.title)
def test_the_page_is_what_is_measured(row: Format) -> None:
    measured = [each(row, name) for name in FAMILIES for each in (format_table.ours, format_table.theirs)]
    assert measured == cells()[row.title]
