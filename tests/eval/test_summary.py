"""Figures of pictures whose values are made up: which measure agrees with presence, and which judges no picture."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from eval import columns, suites
from eval.measuring import Measured, Row
from eval.page import sections
from eval.running import Overrides, Run, Wish
from eval.summary import Figures

METRICS = ("presence", "clipscore", "pixels", "features", "cost", "effort")


@pytest.fixture(scope="module")
def figures() -> Figures:
    """Return figures in which CLIPScore follows presence, distances follow it turned, and PSNR goes against it."""
    suite = suites.load("compos")
    labels = ("naive", "merge", "switch", "composite")
    wish = Wish(suite="compos", mapped=None, sets=4, seeds=1, methods=labels, overrides=Overrides(), clip=None)
    run = Run(Path(), wish, suite, tuple(map(columns.parse, labels)), suite.cases(4))
    rng = Random("made up")
    rows: list[Row] = []
    for case in run.cases:
        for place, label in enumerate(labels):
            present = (place + rng.choice((0, 0, 0, 1))) / 4
            values = {
                "present": present,
                "complete": float(present == 1),
                "clipscore": 20 + 10 * present**3,
                "clipscore_prompt": rng.random(),
                "feature_distance": 3 - present,
                "psnr": -present,
                "passes": present,
                "seconds": present,
                "gflop": present,
            }
            rows.append(Row(label, case, "x.png", values, {}))
    return Figures(Measured(run, tuple(rows), {}, METRICS))


def test_agreement_is_of_order_and_with_the_better_end(figures: Figures) -> None:
    found = {one.measure: one for one in figures.agreements()}
    for name, agreement in (("clipscore", 1.0), ("feature_distance", 1.0), ("psnr", -1.0)):
        one = found[name]
        assert one.pictures.mean == pytest.approx(agreement) and one.columns == pytest.approx(agreement)
        assert one.within is not None and one.within.mean == pytest.approx(agreement)
    chance = found["clipscore_prompt"].pictures
    assert chance.ends is not None and chance.ends[0] < 0 < chance.ends[1] and abs(chance.mean) < 0.5


def test_what_a_picture_takes_does_not_judge_it(figures: Figures) -> None:
    assert {"passes", "seconds", "gflop"} <= {one.name for one in figures.measures}
    assert not {"passes", "seconds", "gflop", "present"} & {one.measure for one in figures.agreements()}


def test_the_report_tells_each_metric_s_agreement(figures: Figures) -> None:
    table = {row[0].text: row[1].text for row in sections.agreements(figures).rows}
    assert table["CLIPScore (embedded CLIP)"] == "1.00" and table["PSNR to truth"] == "-1.00"
