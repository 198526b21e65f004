"""The page on methods: every method is on it, in words that Markdown leaves as they are."""

from __future__ import annotations

import pytest

from composer import registry
from eval import methods_page
from pipelines.engine import Engine


def test_a_paragraph_is_the_file_s_own_text() -> None:
    told = methods_page.paragraph("regional")
    assert told.startswith("Regional composition: each LoRA") and "\n" not in told
    assert "`noise`: one pass per region" in told and r"sum\_r m\_r" in told and "arXiv:2302.08113" in told


def test_signs_mean_nothing() -> None:
    assert methods_page.escaped("a_i * <b> [c]") == r"a\_i \* \<b> \[c\]"


def test_a_section_has_a_row_of_figures() -> None:
    told = methods_page.section("merge", {"passes": 12, "looks": 0}, {"both there": 0.256})
    assert "| passes | both there |\n| --- | --- |\n| 12 | 0.256 |" in told
    assert told.startswith("## LoRA Merge (`merge`)") and "(figures/methods/merge.png)" in told


@pytest.mark.parametrize("name", registry.names())
def test_every_method_can_be_shown(name: str) -> None:
    assert Engine().dry_run(methods_page.request(name, 1)).unet_passes > 0
