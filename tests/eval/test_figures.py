"""Figures by hand: intervals, balanced accuracy, shares, tables."""

from __future__ import annotations

import pytest

from eval import accuracy, base, compose, tables
from eval.accuracy import Tally
from eval.bench import kind, share, value
from eval.intervals import bootstrap
from lora_zoo.world.labels import label_names, labels
from lora_zoo.world.scene import Creature, Scene

PLAIN = Scene("meadow", (Creature("round", "red"),))
STAR = Scene("moon", (Creature(character="quill"),), "neon")


def truthful(scene: Scene) -> dict[str, float]:
    return {label: float(bool(answer)) for label, answer in labels(scene).items()}


def test_an_interval_of_equal_values_has_no_width() -> None:
    found = bootstrap([0.25] * 7)
    assert (found.mean, found.low, found.high) == (0.25, 0.25, 0.25)


def test_an_interval_holds_its_mean_is_repeated_and_narrows() -> None:
    few, many = bootstrap([0.0, 1.0] * 5), bootstrap([0.0, 1.0] * 500)
    assert few == bootstrap([0.0, 1.0] * 5)
    assert few.ends is not None and many.ends is not None
    (low, high), (least, most) = few.ends, many.ends
    assert low < few.mean == 0.5 < high
    assert most - least < (high - low) / 5
    assert most - least == pytest.approx(2 * 1.96 * 0.5 / 1000**0.5, rel=0.1)


def test_balanced_accuracy_is_the_mean_of_both_rates() -> None:
    tally = Tally()
    for truth, said in [(True, True), (True, False), (False, False), (False, False), (False, False), (False, True)]:
        tally.add(truth, said)
    found = tally.result("x")
    assert found is not None
    assert (found.balanced, found.yes, found.no) == ((0.5 + 0.75) / 2, 2, 4)


def test_a_question_without_a_yes_is_not_rated() -> None:
    tally = Tally()
    tally.add(False, False)
    assert tally.result("x") is None


def test_a_true_judge_is_rated_1_and_a_mistake_is_named_first() -> None:
    right = accuracy.summarise([(PLAIN, truthful(PLAIN)), (STAR, truthful(STAR))])
    assert {one.balanced for one in (*right.labels, *right.attributes, *right.concepts)} == {1.0}
    assert {one.name for one in right.concepts} == {"quill", "moon", "neon"}
    blind = {**truthful(STAR), "place.moon": 0.1}
    wrong = accuracy.summarise([(PLAIN, truthful(PLAIN)), (STAR, blind)])
    assert (wrong.labels[0].name, wrong.labels[0].balanced) == ("place.moon", 0.5)
    assert (wrong.concepts[0].name, wrong.concepts[0].balanced) == ("moon", 0.5)


def test_labels_fall_into_kind_and_value() -> None:
    assert (kind("left.garment_colour.red"), value("left.garment_colour.red")) == ("garment_colour", "red")
    assert (kind("place.two_suns"), value("place.two_suns")) == ("place", "two_suns")
    assert all(kind(label) and value(label) for label in label_names())
    assert share([True, False]) == 0.5


def test_the_base_models_shares_are_pooled_over_attributes() -> None:
    rows = [
        base.Row("a", 0, 1, {"centre.colour.red": True, "place.meadow": True}, "a.png"),
        base.Row("b", 1, 2, {"left.colour.red": True, "right.colour.blue": False}, "b.png"),
    ]
    found = base.summarise(rows, "settings")
    assert (found.overall, found.one_creature, found.two_creatures, found.complete) == (0.75, 1.0, 0.5, 0.5)
    assert found.kinds == {"colour": pytest.approx(2 / 3), "place": 1.0}
    assert "| colour | 66.7 % |" in tables.of_base(found)


def test_a_cell_averages_seeds_before_sets() -> None:
    def row(members: str, seed: int, answers: dict[str, bool]) -> compose.Row:
        return compose.Row(2, "merge", "orbit", members, seed, "", answers, 20, 0.5 + seed, "x.png")

    rows = [
        row("zorp+neon", 0, {"zorp": True, "neon": True}),
        row("zorp+neon", 1, {"zorp": True, "neon": False}),
        row("bolt+moon", 0, {"bolt": False, "moon": False}),
        row("bolt+moon", 1, {"bolt": False, "moon": True}),
    ]
    cell = compose.cell(rows)
    assert (cell.sets, cell.pictures, cell.passes, cell.seconds) == (2, 4, 20, 1.0)
    assert (cell.present.mean, cell.complete.mean) == (0.5, 0.25)
    assert cell.categories == {"character": 0.5, "style": 0.5, "background": 0.5}
    line = tables.of_compose(compose.Summary("settings", 2, (cell,))).splitlines()[-1]
    assert line.startswith("| 2 | merge | 2 | 50.0 % [")
    assert line.endswith("| 50.0 % | – | 50.0 % | 50.0 % | – | 20 | 1.00 |")
