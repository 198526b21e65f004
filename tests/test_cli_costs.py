"""The command line tells what a rendering takes before it is made, and resolves what is asked for once."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipelines import engine as engine_module
from pipelines import estimates, resolve, specs
from pipelines.cli import main
from pipelines.pricing import Cost

PLAIN = ["render", "--prompt", "zorp in a meadow", "--lora", "zorp"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDLEY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def said(capsys: pytest.CaptureFixture[str], *command: str) -> Any:
    assert main([*command, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The prompts that were resolved, one for each time."""
    seen: list[str] = []

    def counting(request: Any, source: Any) -> resolve.Resolved:
        seen.append(request.prompt)
        return resolve.resolve(request, source)

    monkeypatch.setattr(engine_module, "resolve", counting)
    return seen


@pytest.mark.parametrize(
    ("prompt", "times"), [("zorp in a meadow", 1), ("zorp in a {red|green|blue|grey|white} meadow", 2)]
)
def test_a_dry_run_resolves_each_distinct_request_once(
    prompt: str, times: int, resolved: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The three seeds from 1 draw two colors."""
    told = said(capsys, "render", "--prompt", prompt, "--seed", "1", "--count", "3", "--dry-run")
    assert told["pictures"] == 3 and [one["seed"] for one in told["requests"]] == [1, 2, 3]
    assert len({one["prompt"] for one in told["requests"]}) == times
    assert len(resolved) == times


def test_a_rendering_resolves_each_distinct_request_once(
    resolved: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    made = said(capsys, *PLAIN, "--steps", "1", "--count", "3")["images"]
    assert len(resolved) == 1
    assert len({one["pixels_sha256"] for one in made}) == 3


def test_a_dry_run_tells_arithmetic_memory_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    before = said(capsys, *PLAIN, "--dry-run")
    assert (before["unet_passes"], before["seconds"], before["seconds_from"]) == (20, None, None)
    assert before["gflop"] == pytest.approx(35.15, abs=0.05)
    assert before["memory"] == 4957798
    spec = specs.find("tiny")
    estimates.learn(estimates.place_of(spec, "cpu", "float32"), Cost(20, 40, 20, gflop=before["gflop"]), 3.5)
    after = said(capsys, *PLAIN, "--dry-run", "--count", "2")
    assert after["seconds"] == pytest.approx(7.0)
    assert after["seconds_from"] == "1 renderings on cpu in float32"
    assert main([*PLAIN, "--dry-run"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (lines["seconds"], lines["gflop"], lines["memory"]) == ("about 3.5 s", "35.1", "5 MB beside model and LoRAs")
    assert said(capsys, *PLAIN, "--dry-run", "--dtype", "bfloat16")["seconds"] is None


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--size", "768x768"], "as much as 1,47. usual ones of model 'tiny'; to lower it, ask for a smaller size"),
        (["--steps", "900", "--size", "192x192"], "to lower it, ask for fewer steps than 900"),
    ],
)
def test_a_great_deal_is_remarked(more: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["render", "--prompt", "zorp", "--lora", "zorp", *more, "--dry-run"]
    assert main(command) == 0
    assert re.search(told, capsys.readouterr().err)


def test_what_is_usual_is_not_remarked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PLAIN, "--dry-run", "--count", "300"]) == 0
    assert capsys.readouterr().err == ""


def test_a_batch_tells_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "jobs.jsonl").write_text('{"prompt": "a hill"}\n{"prompt": "a hill", "width": 768, "height": 768}\n')
    assert main(["batch", "jobs.jsonl", "--dry-run", "--json"]) == 0
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert (told["jobs"], told["unet_passes"], told["seconds"]) == (2, 40, None)
    assert told["gflop"] == pytest.approx(51_648, abs=50)
    assert "as much as 1,47" in captured.err
