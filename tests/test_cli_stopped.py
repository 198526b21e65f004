"""`render` stopped, or in trouble on the way: what is written is told and whole; a batch counts no attempt."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import main
from pipelines.engine import Engine
from pipelines.images import Rendering
from pipelines.jobs.ledger import Ledger
from pipelines.jobs.states import State

ASKED = ["render", "--prompt", "zorp", "--steps", "1", "--count", "20", "--out", "out"]
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def second_time(act: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an engine do something else when it is asked to render for the second time."""
    real, calls = Engine.render_many, iter(range(9))

    def render(self: Engine, *given: Any) -> list[Rendering]:
        if next(calls):
            act()
        return real(self, *given)

    monkeypatch.setattr(Engine, "render_many", render)


def full() -> None:
    raise OSError("the disk is full")


def stop(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_what_is_written_is_told(
    number: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    second_time(stop(number), monkeypatch)
    assert main(ASKED) == code
    first, second = capsys.readouterr().err.splitlines()
    there = list(Path("out").glob("*.png"))
    assert first == f"{len(there)} of 20 pictures are written, in out" and 0 < len(there) < 20
    assert second.startswith("stopped by ")


@pytest.mark.parametrize(("act", "code"), [(stop(signal.SIGINT), 130), (full, 1)])
def test_a_document_of_what_is_written_is_whole(
    act: Callable[[], None], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    second_time(act, monkeypatch)
    assert main([*ASKED, "--json"]) == code
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert {row["path"] for row in found["images"]} == {str(path) for path in Path("out").glob("*.png")}
    assert found["missing"] == 20 - len(found["images"]) > 0
    assert "pictures are written, in out" in said.err


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_batch_counts_no_attempt(
    number: int, code: int, small_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("jobs.yaml").write_text(
        f"defaults: {{model: {small_folder}, num_inference_steps: 1}}\njobs: [{{prompt: a cat, seed: 1}}]\n"
        "axes: {x: {seed: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]}}\n"
    )
    with monkeypatch.context() as patch:
        second_time(stop(number), patch)
        assert main(["batch", "jobs.yaml", "--out", "out"]) == code
    assert "the same command goes on from here\nstopped by " in capsys.readouterr().err
    ledger = Ledger(Path("out"))
    try:
        counts = ledger.counts()
        assert counts[State.RUNNING] == counts[State.FAILED] == counts[State.QUARANTINED] == 0
        assert counts[State.WAITING] > 0 and {entry.attempts for entry in ledger.entries()} == {0}
    finally:
        ledger.close()
    assert main(["batch", "jobs.yaml", "--out", "out"]) == 0
