"""Pages and plots: what comes from outside is text, what is shown is what was measured."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from PIL import Image

from eval.intervals import Interval
from eval.page import elements, plots, sections
from eval.page.elements import Part, Td
from eval.page.plots import Axes, Point
from tests.eval.offline import outside

HOSTILE = "<script>alert(1)</script> | \"x\" & 'y'"
AXES = Axes("cost", "quality", percent=True)


def at(x: float, y: float, width: float = 0.1) -> Point:
    return Point(x, Interval(y, y - width, y + width))


def test_hostile_texts_stay_texts() -> None:
    part = Part(HOSTILE, (HOSTILE,), [[Td(HOSTILE, HOSTILE, best=True)]], HOSTILE)
    page = elements.page(HOSTILE, [part.html(), elements.strip([("data:,", HOSTILE, HOSTILE)]), elements.pre(HOSTILE)])
    assert "<script" not in page and "alert(1)" in page
    assert "script-src" not in page and "default-src 'none'" in page
    svg = plots.scatter({HOSTILE: at(1, 0.5)}, Axes(HOSTILE, HOSTILE, percent=False), [])
    ElementTree.fromstring(svg)
    assert "\\|" in part.markdown().splitlines()[-1]


def test_what_a_page_loads_from_elsewhere_is_found() -> None:
    inside = '<a href="#here">x</a><img src="data:image/png;base64,x"><svg xmlns="http://www.w3.org/2000/svg"></svg>'
    assert outside(elements.page("x", [inside])) == []
    for taken in (
        '<img src="x.png">',
        '<link href="//x/y.css">',
        '<p style="background: url(x.png)">',
        "<style>@import 'x.css'</style>",
        '<script src="https://x/y.js"></script>',
    ):
        assert len(outside(elements.page("x", [taken]))) == 1


def test_a_table_without_rows_is_nothing() -> None:
    assert Part("x", ("a",), []).html() == Part("x", ("a",), []).markdown() == ""


@pytest.mark.parametrize("xs", [(1, 2, 3), (20, 20, 20), (0.5, 5, 500), (0, 1, 2)])
def test_points_stand_where_they_belong(xs: tuple[float, ...]) -> None:
    names = ("low", "middle", "high")
    points = {name: at(x, y) for name, x, y in zip(names, xs, (0.2, 0.5, 0.8), strict=True)}
    svg = plots.scatter(points, AXES, ("high",))
    root = ElementTree.fromstring(svg)
    marks = [one for one in root.iter() if one.tag.endswith("circle")]
    places = [(float(one.attrib["cx"]), float(one.attrib["cy"])) for one in marks]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert [y for _, y in places] == sorted((y for _, y in places), reverse=True)
    assert all(0 < x < 760 and 0 < y < 420 for x, y in places)
    assert marks[2].attrib["fill"] == plots.PALETTE[0] and marks[0].attrib["fill"] == plots.FAINT


def test_labels_do_not_cover_each_other() -> None:
    points = {f"method {n}": at(20, 0.5 + n / 1000) for n in range(12)}
    svg = plots.scatter(points, AXES, ())
    heights = sorted(float(y) for y in re.findall(r'<text x="[\d.]+" y="([\d.]+)" fill="#22272b">method', svg))
    assert len(heights) == 12 and all(b - a >= 12 for a, b in zip(heights, heights[1:], strict=False))


def test_lines_are_drawn_per_method() -> None:
    svg = plots.lines({"a": [at(2, 0.9), at(3, 0.5)], "b": [at(2, 0.8), at(3, 0.7)]}, AXES, ("a",))
    root = ElementTree.fromstring(svg)
    assert sum(one.tag.endswith("polyline") for one in root.iter()) == 2
    assert "90 %" in svg or "80 %" in svg


def test_pictures_are_part_of_the_page() -> None:
    small, large = (elements.data_uri(Image.new("RGB", size)) for size in ((64, 64), (1024, 768)))
    assert small.startswith("data:image/png;base64,") and large.startswith("data:image/jpeg;base64,")


def test_published_figures_are_as_they_were_read() -> None:
    known = sections.published()
    assert all(len(values) == len(one.columns) for one in known.tables for values in one.rows.values())
    scores = next(one for one in known.tables if one.measure == "clipscore")
    assert scores.rows["loratorio"][-1] == 36.36 and scores.rows["naive"][-1] == 34.53
    marked = [part.markdown() for part in sections.beside(["merge"])]
    assert "| merge * |" in marked[0] and "| switch |" in marked[0]
