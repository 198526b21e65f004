"""Estimates from what was measured before: none before there is one, the median after, whatever lies in the file."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from composer.request import RenderRequest
from pipelines import estimates, specs
from pipelines.engine import Engine
from pipelines.estimates import Estimate, Place
from pipelines.pricing import Cost

TINY = specs.find("tiny")
HERE = estimates.place_of(TINY, "cpu", "float32")


def cost(gflop: float, calls: int = 20) -> Cost:
    return Cost(calls, 2 * calls, calls, gflop=gflop)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "speeds.json"


def learned(file: Path, *pairs: tuple[float, float], place: Place = HERE) -> None:
    """Keep renderings of so many GFLOP that took so many seconds."""
    for gflop, seconds in pairs:
        estimates.learn(place, cost(gflop), seconds, file)


def test_nothing_is_said_before_it_was_measured(file: Path) -> None:
    assert estimates.estimate(TINY, cost(100.0), file=file) is None
    assert estimates.told(None) == "time not yet measured here"
    assert not file.exists()


def test_the_median_of_what_was_measured_is_told(file: Path) -> None:
    learned(file, (100.0, 2.0), (100.0, 1.0), (100.0, 90.0))  # one beside other work
    assert estimates.estimate(TINY, cost(50.0), file=file) == Estimate(1.0, "cpu", "float32", 3)


def test_calls_of_about_the_same_size_count(file: Path) -> None:
    learned(file, *[(20.0, 2.0)] * 3, *[(2000.0, 20.0)] * 3)
    small, large = (estimates.estimate(TINY, cost(gflop), file=file) for gflop in (30.0, 4000.0))
    assert small is not None and large is not None
    assert (small.seconds, large.seconds) == (pytest.approx(3.0), pytest.approx(40.0))
    between = estimates.estimate(TINY, cost(200.0), file=file)
    assert between is not None and between.of == 6  # none is near: all


def test_only_the_latest_are_kept(file: Path) -> None:
    learned(file, *[(100.0, 100.0)] * 60, *[(100.0, 1.0)] * 48)
    found = estimates.estimate(TINY, cost(100.0), file=file)
    assert found == Estimate(1.0, "cpu", "float32", 48)


def test_only_so_many_places_are_kept_those_used_last(file: Path) -> None:
    learned(file, (100.0, 1.0))
    for number in range(70):
        learned(file, (100.0, 1.0), place=Place(f"other{number}", "cpu", "float32"))
        if number == 10:
            learned(file, (100.0, 1.0))
    kept = [one["place"]["architecture"] for one in json.loads(file.read_text("utf-8"))]
    assert len(kept) == 64 and kept[-1] == "other69" and HERE.architecture in kept and "other0" not in kept


def test_the_device_used_last_is_told_and_a_type_that_is_chosen(file: Path) -> None:
    learned(file, (100.0, 1.0))
    learned(file, (100.0, 0.1), place=replace(HERE, device="cuda:0", dtype="float16"))
    latest = estimates.estimate(TINY, cost(100.0), file=file)
    assert latest is not None and (latest.device, latest.seconds) == ("cuda:0", pytest.approx(0.1))
    single = estimates.estimate(TINY, cost(100.0), "float32", file)
    assert single is not None and (single.device, single.seconds) == ("cpu", pytest.approx(1.0))
    assert estimates.estimate(TINY, cost(100.0), "bfloat16", file) is None


def test_models_of_one_architecture_share_what_was_measured(file: Path, small_folder: Path) -> None:
    learned(file, (100.0, 1.0))
    assert estimates.estimate(replace(TINY, name="another"), cost(100.0), file=file) is not None
    assert estimates.estimate(specs.find(str(small_folder)), cost(100.0), file=file) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1, 2]",
        b"[" * 5000,
        b'[{"place": {"architecture": "x", "device": "cpu", "dtype": "float32"}, "speeds": []}]',
        b'[{"place": {"architecture": "x", "device": "cpu", "dtype": "f"}, "speeds": [{"call": -1, "seconds": 0}]}]',
        b'[{"place": {"architecture": "x", "device": "cpu", "dtype": "f"}, "speeds": [{"call": NaN, "seconds": 1}]}]',
        b" " * ((1 << 20) + 1),
    ],
    ids=["empty", "half", "other", "deep", "none", "negative", "NaN", "long"],
)
def test_a_file_that_is_not_ours_begins_anew(content: bytes, file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    assert estimates.estimate(TINY, cost(100.0), file=file) is None
    learned(file, (100.0, 1.0))
    assert estimates.estimate(TINY, cost(100.0), file=file) == Estimate(1.0, "cpu", "float32", 1)
    assert [one.name for one in file.parent.iterdir()] == ["speeds.json"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_in_its_place_is_not_waited_for(file: Path) -> None:
    file.parent.mkdir()
    os.mkfifo(file)
    assert estimates.estimate(TINY, cost(100.0), file=file) is None


def test_a_folder_that_cannot_be_made_loses_a_measurement_and_no_picture(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder", "utf-8")
    learned(tmp_path / "cache" / "speeds.json", (100.0, 1.0))
    assert [one.name for one in tmp_path.iterdir()] == ["cache"]


@pytest.mark.parametrize(("found", "seconds"), [(Cost(0, 0, 0), 1.0), (cost(100.0), 0.0), (cost(100.0), float("nan"))])
def test_what_measures_nothing_is_not_kept(found: Cost, seconds: float, file: Path) -> None:
    estimates.learn(HERE, found, seconds, file)
    assert not file.exists()


def test_every_rendering_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLEY_CACHE", str(tmp_path / "cache"))
    engine = Engine()
    request = RenderRequest(prompt="a hill", num_inference_steps=2)
    made = engine.render_many([request, request.model_copy(update={"seed": 5})])
    told = engine.dry_run_many([request, request])
    found = estimates.estimate(TINY, told)
    assert found is not None and (found.of, found.device, found.dtype) == (1, "cpu", "float32")
    assert found.seconds == pytest.approx(sum(one.record.seconds or 0.0 for one in made))


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.01, "0.1 s"), (3.21, "3.2 s"), (9.96, "10 s"), (119.0, "119 s"), (600.0, "10 min"), (36000.0, "10 h")],
)
def test_times_are_told_as_people_tell_them(seconds: float, told: str) -> None:
    assert estimates.duration(seconds) == told
    assert estimates.told(Estimate(seconds, "cpu", "float32", 3)) == f"about {told}"
