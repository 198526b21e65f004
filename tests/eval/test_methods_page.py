"""The page on methods: every method is on it, in words that Markdown leaves as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from composer import registry
from eval import methods_page
from eval.columns import Column
from eval.measuring import Measured, Row
from eval.method_figures import MethodFigures
from eval.running import Overrides, Run, Wish
from eval.suites import duet
from eval.suites.model import Case
from pipelines.engine import Engine


def test_a_paragraph_is_the_file_s_own_text() -> None:
    told = methods_page.paragraph("regional")
    assert told.startswith("Regional composition: each LoRA") and "\n" not in told
    assert "`noise`: one pass per region" in told and r"sum\_r m\_r" in told and "arXiv:2302.08113" in told


@pytest.mark.parametrize("name", registry.names())
def test_the_page_says_what_the_method_s_file_says(name: str) -> None:
    page = Path(__file__).parents[2] / "docs" / "methods.md"
    assert f"(`{name}`)\n\n{methods_page.paragraph(name)}\n" in page.read_text("utf-8")


def test_signs_mean_nothing() -> None:
    assert methods_page.escaped("a_i * <b> [c]") == r"a\_i \* \<b> \[c\]"


def test_a_section_tells_costs_and_figures() -> None:
    told = methods_page.section("merge", {"passes": 12, "looks": 0}, "| suite |")
    assert "Each of these took 12 passes.\n\n| suite |\n" in told and "looks" not in told
    assert told.startswith("## LoRA Merge (`merge`)") and "(figures/methods/merge.png)" in told


def test_figures_are_those_of_the_methods_own_column() -> None:
    """By hand: two of two and one of two members found in two sets; a variant with other parameters is not it."""
    suite = duet.suite()
    cases = (Case(suite.sets[0], 0), Case(suite.sets[1], 0))
    wish = Wish(suite="duet", mapped=None, sets=1, seeds=1, methods=("merge",), overrides=Overrides(), clip=None)
    column = Column("merge", "merge", {})
    run = Run(Path("out"), wish, suite, (column,), cases)
    rows = tuple(
        Row("merge", case, "x.png", {"present": present, "seconds": 2.0}, {})
        for case, present in zip(cases, (1.0, 0.5), strict=True)
    )
    figures = MethodFigures([Measured(run, rows, {}, ("presence", "cost"))])
    head, _, row = figures.markdown("merge").splitlines()
    cells = dict(zip(head.split(" | "), row.split(" | "), strict=True))
    assert cells["| suite"] == "| duet" and cells["sets"] == "2"
    assert cells["concepts present"] == "75.0 % [50.0, 100.0]"
    assert cells["seconds |"] == "2.00 |" and cells["on the other side"] == "–"
    assert figures.markdown("switch") == ""


@pytest.mark.parametrize("name", registry.names())
def test_every_method_can_be_shown(name: str) -> None:
    assert Engine().dry_run(methods_page.request(name, 1)).unet_passes > 0
