"""The evaluations on what the project ships, in small: they run from end to end and find what is there.

The floors are far below what the full evaluations report; they catch a broken file, not a weaker one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eval import accuracy, base, clip, compose, loras, report
from eval.bench import Advance, Bench
from eval.gallery import Gallery
from eval.sets import sample_sets
from lora_zoo.detectors import Detectors
from lora_zoo.world.labels import named
from lora_zoo.world.vocabulary import CONCEPTS
from pipelines.engine import Engine


@contextmanager
def counted(what: str, total: int) -> Iterator[Advance]:
    """Count like a progress bar, and insist that all is told of."""
    done: list[int] = []
    yield done.append
    assert sum(done) == total, what


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


@pytest.fixture
def bench(tmp_path: Path, engine: Engine) -> Bench:
    return Bench(tmp_path, Gallery(tmp_path / "pictures", engine), Detectors.load(), counted)


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_the_clip_finds_captions(tmp_path: Path) -> None:
    found = clip.run(tmp_path, counted, groups=1)
    assert found.caption_of_picture >= 0.8
    assert lines(tmp_path / "clip.jsonl") == 1


def test_the_detectors_see_concepts(bench: Bench) -> None:
    found = accuracy.run(bench, 200)
    assert sum(one.balanced for one in found.concepts) / len(found.concepts) >= 0.97
    assert len(found.concepts) == len(CONCEPTS)


@pytest.mark.thorough
def test_the_base_model_shows_what_is_named(bench: Bench) -> None:
    found = base.run(bench, 12)
    assert found.overall >= 0.75
    assert lines(bench.path("base.jsonl")) == len(list(bench.path("pictures").iterdir())) == 12
    assert "base.png" in report.run(bench.out, bench.out / "docs").read_text()


@pytest.mark.thorough
def test_every_lora_of_the_zoo_is_judged(bench: Bench) -> None:
    found = loras.run(bench, 1)
    assert [one.name for one in found.loras] == [one.name for one in CONCEPTS]
    assert sum(one.found for one in found.loras) / len(CONCEPTS) >= 0.7
    assert bench.path("loras.png").exists()


@pytest.mark.thorough
def test_methods_are_compared_on_the_same_noise(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose, "SIZES", (2,))
    found = compose.run(bench, sets=2, seeds=1)
    assert [one.method for one in found.cells] == [compose.TRUTH, *compose.METHODS]
    passes = {one.method: one.passes for one in found.cells}
    assert passes["composite"] == 2 * passes["merge"] == 2 * passes["switch"] == 2 * passes["naive"]
    assert lines(bench.path("compose.jsonl")) == 2 * len(found.cells)
    assert bench.path("compose.png").exists()


def test_cases_differ_in_nothing_but_the_method() -> None:
    case = compose.Case(sample_sets(3, 2)[0], 4)
    asked = {method: case.request(method) for method in compose.METHODS}
    assert len({(one.prompt, one.seed, one.num_inference_steps, one.guidance_scale) for one in asked.values()}) == 1
    assert [len(one.adapters) for one in asked.values()] == [0, 3, 3, 3, 3]
    assert all(use.weight is None for one in asked.values() for use in one.adapters)


def test_a_lora_is_held_to_what_the_base_model_shows_too() -> None:
    for one in CONCEPTS:
        for asked in loras.prompts(one, 3):
            assert set(asked.others()) <= set(named(asked.base))
            assert one.phrase in asked.request().prompt and one.phrase not in asked.base_request().prompt
            assert asked.base_request().adapters == () and asked.request().seed == asked.base_request().seed
