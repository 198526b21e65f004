"""Files of jobs that strangers wrote, or programs went wrong in: typed errors, before anything is expanded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.cli import main
from pipelines.engine import Engine
from pipelines.jobs import axes, planning, sources
from pipelines.jobs.errors import BadJobs
from pipelines.jobs.sources import Draft

_LONG = "9" * 5000


def data(path: Path) -> list[object]:
    return [one.data for draft in sources.read(path).drafts for one in sources.plain(draft)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl",
            b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            "a.jsonl line 1: nested more than 64 deep",
        ),
        ("a.jsonl", b'{"prompt": "x"}\n{"seed": %s}' % _LONG.encode(), "a.jsonl line 2: not JSON"),
        ("a.jsonl", b'{"prompt": "\\ud800"}', "a.jsonl line 1: half of a character"),
        ("a.jsonl", b'{"guidance_scale": NaN}', "a.jsonl line 1: not JSON (NaN is not a number in JSON)"),
        ("a.jsonl", b'{"seed": 1, "seed": 2}', "a.jsonl line 1: not JSON (a key is stated twice, 'seed')"),
        ("a.jsonl", b'{"prompt": "\xff"}', "not text in UTF-8"),
        ("a.csv", b"prompt\n\xff\n", "not text in UTF-8"),
        ("a.csv", b"prompt,seed\nx,%s\n" % _LONG.encode(), "a.csv line 2: seed must be a whole number"),
        ("a.csv", b"prompt,set.interval\nx,%s\n" % _LONG.encode(), "a.csv line 2: set.interval: not JSON"),
        ("a.csv", b"prompt,set.interval\nx," + b"[" * 100_000, "a.csv line 2: set.interval: nested more than 16 deep"),
        ("a.txt", b"--prompt x --seed %s" % _LONG.encode(), "a.txt line 1: seed must be a whole number"),
        ("a.yaml", b"seed: %s" % _LONG.encode(), "a.yaml: not YAML"),
        ("a.yaml", b"x: " + b"[" * 500, "a.yaml: nested more than 64 deep"),
        (
            "a.yaml",
            b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (n, n, n - 1, n - 1) for n in range(98, 123)),
            "a.yaml: line 2 uses an alias (*a); write it out",
        ),
        ("a.yaml", b"jobs: [!!python/object/apply:os.system [echo]]", "a.yaml: not YAML"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_read_is_a_typed_error(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadJobs) as told:
        data(tmp_path / name)
    assert message in str(told.value)
    assert len(str(told.value)) < 400


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_pipe_is_no_file_of_jobs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(BadJobs, match="a pipe, not a regular file"):
        sources.read(tmp_path / "a.jsonl")


@pytest.mark.parametrize("text", ["set:interval=" + _LONG, "replace=" + "[" * 100_000])
def test_values_of_axes_are_bounded_too(text: str) -> None:
    with pytest.raises(BadJobs) as told:
        axes.parse("x", text)
    assert len(str(told.value)) < 400


class Untouched(Engine):
    """An engine that nothing is asked of."""

    def resolve(self, request: object) -> object:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise AssertionError("resolved before it was counted")


def test_jobs_are_counted_before_any_is_expanded() -> None:
    drafts = [Draft("a.csv line 2", {"count": 10_000}), Draft("a.csv line 3", {"count": "250"})]
    over = [axes.parse(name, "seed=1..1000") for name in "xyz"]
    message = "10,250,000,000,000 jobs are asked for, over axes of 1,000 x 1,000 x 1,000 values; at most 1,000,000"
    with pytest.raises(BadJobs, match=message):
        planning.plan(Untouched(), drafts, over)


def test_a_dry_run_counts_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = tmp_path / "a.jsonl"
    jobs.write_text('{"prompt": "x", "count": 10000}\n')
    assert main(["batch", str(jobs), "--dry-run", "--x", "steps=1..999", "--y", "guidance=2..90"]) == 2
    assert "error: 889,110,000 jobs are asked for" in capsys.readouterr().err


def test_jobs_alike_but_for_their_seeds_are_resolved_once(
    engine: Engine, small_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = engine.resolve
    monkeypatch.setattr(engine, "resolve", lambda request: (asked.append(request.seed), real(request))[1])
    draft = Draft("here", {"prompt": "x", "model": str(small_folder), "count": 50, "seed": 3})
    found = planning.plan(engine, [draft], [axes.parse("x", "guidance=2,3")])
    assert asked == [3, 3]
    monkeypatch.undo()
    alone = [
        planning.plan(engine, [Draft("here", {**draft.data, "count": 1, "seed": seed, "guidance": 2})], [])
        for seed in (3, 52)
    ]
    assert [found.jobs[0], found.jobs[-2]] == [one.jobs[0] for one in alone]
    assert len(found.jobs) == 100
