"""Tables for spreadsheets: no cell of text is taken for a formula, and numbers stay numbers."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from eval import outputs


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", '=HYPERLINK("http://x";"y")'])
def test_a_text_that_looks_like_a_formula_is_written_as_text(text: str, tmp_path: Path) -> None:
    outputs.write_csv([{"prompt": text, "=key": "a"}], tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        header, row = csv.reader(file)
    assert (header, row) == (["prompt", "'=key"], [f"'{text}", "a"])


def test_numbers_and_plain_texts_are_written_as_they_are(tmp_path: Path) -> None:
    rows = [{"a": -1.5, "b": None, "c": "a cat, = red", "d": True}, {"a": 2, "b": 3, "c": "", "d": False}]
    outputs.write_csv(rows, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == 'a,b,c,d\n-1.5,,"a cat, = red",True\n2,3,,False\n'
    outputs.write_csv([], tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_text() == ""


def test_every_csv_is_written_by_this_one_function() -> None:
    root = Path(outputs.__file__).parents[1]
    writers = [
        path.relative_to(root).as_posix()
        for package in ("lora_zoo", "composer", "pipelines", "eval", "ui")
        for path in (root / package).rglob("*.py")
        if "csv.writer" in path.read_text("utf-8") or "csv.DictWriter" in path.read_text("utf-8")
    ]
    assert writers == ["eval/outputs.py"]
