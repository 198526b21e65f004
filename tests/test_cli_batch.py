"""`app.py batch`: what is typed, what is printed, what is refused before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from pipelines.cli import main


@pytest.fixture
def jobs(tmp_path: Path, small_folder: Path) -> Path:
    path = tmp_path / "jobs.yaml"
    path.write_text(
        f"defaults: {{model: {small_folder}, num_inference_steps: 2}}\n"
        "axes: {x: {seed: [1, 2]}}\n"
        "jobs: [{prompt: a cat}, {prompt: a dog}]\n"
    )
    return path


def test_a_batch_from_start_to_end(jobs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["batch", str(jobs), "--out", str(out), "--y", "guidance_scale=1,3"]) == 0
    assert "8 pictures in" in capsys.readouterr().out
    names = sorted(path.name for path in out.glob("*.png"))
    assert len(names) == 10 and names[-2:] == ["grid-0001.png", "grid-0002.png"]
    with Image.open(out / "grid-0001.png") as page:
        assert page.width > 2 * 16 and page.height > 2 * 16
    assert main(["batch", "verify", str(out)]) == 0
    assert main(["batch", "status", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.split("\n", 1)[1])
    assert told["done"] == 8 and told["troubles"] == []
    (out / names[0]).unlink()
    assert main(["batch", "verify", str(out)]) == 1
    assert f"{names[0]}: is missing" in capsys.readouterr().out


def test_events_are_json_lines(jobs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batch", str(jobs), "--out", str(tmp_path / "out"), "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["event"] for one in events] == ["done"] * 4 + ["end"]
    assert all((tmp_path / "out" / one["file"]).is_file() for one in events[:-1])


def test_a_dry_run_writes_nothing(jobs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(tmp_path.iterdir())
    assert main(["batch", str(jobs), "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["jobs"], told["unet_passes"], told["unet_rows"]) == (4, 8, 16)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["batch", "jobs.yaml"], "batch needs --out DIR"),
        (["batch", "jobs.yml", "--out", "out"], "there is no file 'jobs.yml'; did you mean 'jobs.yaml'"),
        (["batch", "jobs.yaml", "more", "--out", "out"], "one file of jobs, not 2"),
        (["batch", "jobs.yaml", "--out", "out", "--x", "seed=3"], "axis x is given in jobs.yaml and as --x"),
        (
            ["batch", "jobs.yaml", "--out", "out", "--y", "sead=3"],
            "unknown field of axis y 'sead'; did you mean 'seed'",
        ),
        (
            ["batch", "jobs.yaml", "--out", "out", "--y", "method=merge,swich"],
            "axis y: unknown method 'swich'; did you mean 'switch'",
        ),
        (["batch", "jobs.yaml", "--out", "jobs.yaml"], "'jobs.yaml' is a file, not a folder"),
        (["batch", "status", "nowhere"], "there is no batch in nowhere"),
        (["batch", "verify"], "batch verify takes one folder"),
    ],
)
def test_mistakes_write_nothing(
    words: list[str], message: str, jobs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(jobs.parent)
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert list(jobs.parent.iterdir()) == [jobs]
