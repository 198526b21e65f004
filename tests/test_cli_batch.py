"""`app.py batch`: what is typed, what is printed, what is refused before anything is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from lora_zoo.library import Library
from pipelines import images
from pipelines.cli import main
from pipelines.cli_engine import EngineFlags
from pipelines.engine import Engine


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


@pytest.mark.parametrize(
    ("command", "options", "told"),
    [
        ("render", ["--out", "file/sub"], "file' is a file, not a folder"),
        ("render", ["--findings", "file/sub"], "file' is a file, not a folder"),
        ("render", ["--offload", "parts"], "offload 'parts' moves parts between a GPU and memory"),
        ("render", ["--attention", "xformers"], "attention 'xformers' needs an NVIDIA GPU"),
        ("batch", ["--out", "file/sub"], "file' is a file, not a folder"),
        ("batch", ["--offload", "parts"], "offload 'parts' moves parts between a GPU and memory"),
        ("batch", ["--attention", "xformers"], "attention 'xformers' needs an NVIDIA GPU"),
        ("batch", ["--ray", "nowhere"], "--ray 'nowhere' is no cluster"),
    ],
    ids=str,
)
def test_a_dry_run_refuses_what_the_run_would(
    command: str,
    options: list[str],
    told: str,
    jobs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(jobs.parent)
    Path("file").touch()
    before = sorted(Path().rglob("*"))
    words = ["batch", str(jobs)] if command == "batch" else ["render", "--prompt", "x"]
    assert main([*words, *options, "--dry-run"]) == 2
    assert told in capsys.readouterr().err
    assert sorted(Path().rglob("*")) == before


def test_a_dry_run_writes_nothing(jobs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(tmp_path.iterdir())
    assert main(["batch", str(jobs), "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["jobs"], told["unet_passes"], told["unet_rows"]) == (4, 8, 16)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("suffix", ["jpeg", "webp", "avif"])
def test_a_batch_in_another_format(suffix: str, jobs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["batch", str(jobs), "--out", str(out)]
    assert main([*words, "--format", suffix]) == 0
    names = sorted(path.name for path in out.glob(f"0*.{suffix}"))
    assert len(names) == 4 and not list(out.glob("0*.png"))
    assert {images.read_record(out / name).seed for name in names} == {1, 2}
    assert len(list(out.glob("grid-*.png"))) == 2
    assert main(["batch", "verify", str(out)]) == 0
    (out / names[0]).unlink()
    assert main(words) == 0  # in the format that the batch has
    assert sorted(path.name for path in out.glob(f"0*.{suffix}")) == names
    capsys.readouterr()
    assert main([*words, "--format", "png"]) == 2
    assert f"--format png: the pictures of the batch in {out} are {suffix}" in capsys.readouterr().err
    assert main([*words, "--format", "pgn"]) == 2


def test_model_and_method_of_jobs_that_name_none(small_folder: Path, tmp_path: Path) -> None:
    jobs, out = tmp_path / "a.jsonl", tmp_path / "out"
    jobs.write_text(f'{{"steps": 1}}\n{{"steps": 1, "method": "merge", "model": "{small_folder}", "seed": 2}}\n')
    words = ["batch", str(jobs), "--out", str(out), "--model", str(small_folder), "--method", "regional"]
    assert main(words) == 2  # no LoRA: the method of the first job is asked for more than it has
    assert main([*words[:-1], "merge"]) == 0
    records = [images.read_record(path) for path in sorted(out.glob("*.png"))]
    assert [(one.method, one.model, one.seed) for one in records] == [
        ("merge", small_folder.name, 0),
        ("merge", small_folder.name, 2),
    ]


def test_a_batch_is_run_as_its_options_say(
    jobs: Path, tmp_path: Path, small_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Engine] = []
    real = EngineFlags.engine
    monkeypatch.setattr(EngineFlags, "engine", lambda flags: (made.append(real(flags)), made[-1])[1])
    options = ["--dtype", "bfloat16", "--attention", "eager", "--vae-tiling"]
    assert main(["batch", str(jobs), "--out", str(tmp_path / "out"), *options]) == 0
    model = made[0].model(str(small_folder))
    assert str(model.unet.dtype) == "torch.bfloat16"
    assert main(["batch", "resume", str(tmp_path / "out"), "--dtype", "flaot16"]) == 2


def test_loras_of_a_folder_are_named_in_jobs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo = tmp_path / "zoo" / "a"
    zoo.mkdir(parents=True)
    shutil.copy(Library().path(Library().find("zorp")), zoo / "my style v1.safetensors")
    (tmp_path / "a.csv").write_text("prompt,loras\nzorp,my style v1:0.5;\n")
    assert main(["batch", str(tmp_path / "a.csv"), "--dry-run", "--zoo", str(tmp_path / "zoo")]) == 0
    assert main(["batch", str(tmp_path / "a.csv"), "--dry-run"]) == 2
    assert "a.csv line 2: unknown LoRA 'my style v1'" in capsys.readouterr().err


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
        (["batch", "status", ".", "--format", "png"], "batch status takes one folder"),
        (["batch", "jobs.yaml", "--out", "out", "--format", "gif"], "unknown format 'gif'"),
        (["batch", "jobs.yaml", "--out", "out", "--dtype", "float15"], "unknown dtype 'float15'"),
        (
            ["batch", "jobs.yaml", "--out", "out", "--method", "merge", "--z", "method=merge,switch"],
            "--method is given, and axis z goes over the same",
        ),
    ],
)
def test_mistakes_write_nothing(
    words: list[str], message: str, jobs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(jobs.parent)
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert list(jobs.parent.iterdir()) == [jobs]
