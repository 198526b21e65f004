"""Drawings of outlines: bars where something acts, the same in words, and names that are never markup."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from composer.outline import Line, Outline
from ui import charts


def outline(*strengths: tuple[float, ...], kept: tuple[bool, ...] = (), **more: object) -> Outline:
    lines = tuple(Line(f"lora{n}", one, kept or (False,) * len(one)) for n, one in enumerate(strengths))
    return Outline(lines, (1,) * len(strengths[0]), (0,) * len(strengths[0]), **more)  # pyright: ignore[reportArgumentType]


def bars(page: str) -> list[str]:
    return re.findall(r'<path(?: class="m-kept")? d="([^"]*)"', page)


@pytest.mark.parametrize(
    ("strengths", "words"),
    [
        ((1.0, 1.0), "1 in all steps"),
        ((0.0, 0.0), "never"),
        ((1, 1, 0, 0, 1, 1), "1 in steps 1 to 2 and 5 to 6"),
        ((0, 0.5, 0), "0.5 in step 2"),
        ((1, 0, 1, 0), "1 in steps 1 and 3"),
        ((0.5, 0.5, 1.0), "0.5 in steps 1 to 2, 1 in step 3"),
        ((1, 0) * 6, "1 in 6 of 12 steps"),
        ((0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6), "0.1 to 0.6 in 6 of 7 steps"),
    ],
)
def test_steps_in_words(strengths: tuple[float, ...], words: str) -> None:
    assert charts.in_words(strengths) == words


def test_bars_stand_where_a_lora_acts() -> None:
    page = charts.timeline(outline((1, 1, 0, 0), (0, 0, 0.5, 1)), {})
    assert bars(page) == ["M0 1V0h2V1z", "", "M2 1V0.5h1V1zM3 1V0h1V1z", ""]
    assert 'viewBox="0 0 4 1"' in page and "lora0: 1 in steps 1 to 2; lora1: 0.5 in step 3, 1 in step 4" in page
    assert bars(charts.timeline(outline((1, -1)), {})) == ["M0 0.5V0h1V0.5zM1 0.5V1h1V0.5z", ""]
    assert bars(charts.timeline(outline((0, 0)), {})) == ["", ""]
    assert charts.timeline(Outline(), {}) == ""


def test_kept_features_are_paler_and_said() -> None:
    page = charts.timeline(outline((1, 1), kept=(False, True)), {})
    assert bars(page) == ["M0 1V0h1V1z", "M1 1V0h1V1z"] and "kept in an earlier step" in page


def test_what_is_open_is_said() -> None:
    def notes(**more: object) -> int:
        return charts.timeline(outline((1, 1), **more), {}).count("m-note")  # pyright: ignore[reportArgumentType]

    looked = charts.timeline(replace(outline((1, 1, 1)), looks=(2, 1, 0)), {})
    assert "attention before 2 steps, the last of them step 2" in looked
    assert [notes(), notes(merged=True), notes(settled=False), notes(read=True), notes(second=1)] == [0, 1, 1, 1, 1]
    assert "Provisional" in charts.timeline(outline((1, 1), read=True), {})
    assert "Provisional" not in charts.timeline(outline((1, 1), read=True, known=True), {})


def test_names_are_text() -> None:
    labels = {"lora0": '<b title="x">'}
    page = charts.timeline(outline((1, 1)), labels) + charts.profiles({"lora0": (1.0, 0.5)}, labels, {"lora0": 0})
    assert "<b" not in page and 'title="x"' not in page


def test_profiles_go_from_coarse_to_fine() -> None:
    page = charts.profiles({"a": (1.0, 0.6, 0.2), "b": (0.8, 0.7, 0.6)}, {}, {"a": 0, "b": 7})
    assert 'points="0.0,2.0 50.0,50.0 100.0,98.0" style="stroke:var(--m-lora-0)"' in page
    assert "var(--m-lora-1)" in page and "Part of fine detail: a 0." in page
    assert charts.profiles({"a": ()}, {}, {}) == ""
