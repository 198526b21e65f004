"""One request, the same pixels through every door: Python, command line, all kinds of job files, HTTP, page, replay."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from composer.request import RenderRequest, parse_request
from pipelines import images
from pipelines.cli import main
from pipelines.engine import Engine
from ui.calls import Calls
from ui.forms import Draft
from ui.history import Asked
from ui.service import Service

PROMPT = "a {red|blue} zorp in a __place__ <lora:neon:0.6>"
SEED, STEPS = 11, 3
JOB: dict[str, object] = {
    "prompt": PROMPT,
    "negative_prompt": "text",
    "seed": SEED,
    "num_inference_steps": STEPS,
    "method": "switch",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = tmp_path_factory.mktemp("values")
    (values / "place.txt").write_text("meadow\nwood\nbay\n")
    return values


@pytest.fixture(scope="module")
def wanted(folder: Path) -> str:
    """The digest of the pixels that Python's own door makes."""
    request = parse_request({**JOB, "adapters": [{"name": "zorp"}], "parameters": {"interval": 1}})
    record = Engine(wildcards=folder).render(request).record
    assert [use.name for use in record.adapters] == ["zorp", "neon"]
    return record.pixels_sha256


@pytest.fixture
def service(folder: Path, tmp_path: Path) -> Iterator[Service]:
    service = Service(Engine(wildcards=folder), tmp_path / "data")
    service.start()
    yield service
    service.stop()


def pixels(file: Path) -> str:
    """Return the digest of a picture's pixels, which its record states too."""
    from PIL import Image

    with Image.open(file) as image:
        found = hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()
    assert images.read_record(file).pixels_sha256 == found
    return found


def test_the_command_line(wanted: str, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--prompt", PROMPT, "--negative", "text", "--lora", "zorp", "--method", "switch", "--set", "interval=1"]
    words += ["--seed", str(SEED), "--steps", str(STEPS), "--wildcards", str(folder), "--out", str(out)]
    assert main(["render", *words]) == 0
    (file,) = out.glob("*.png")
    assert pixels(file) == wanted
    assert main(["render", "--from", str(file), "--out", str(tmp_path / "again")]) == 0
    (again,) = (tmp_path / "again").glob("*.png")
    assert pixels(again) == wanted


def _table() -> str:
    text = io.StringIO()
    row = {**JOB, "loras": "zorp", "set.interval": "1"}
    rows = csv.DictWriter(text, row)
    rows.writeheader()
    rows.writerow(row)
    return text.getvalue()


NESTED = {**JOB, "loras": ["zorp"], "parameters": {"interval": 1}}
LINE = f'--prompt "{PROMPT} <lora:zorp:1>" --negative_prompt "text" --seed {SEED} --steps {STEPS}'


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("name", "text"),
    [("jobs.jsonl", json.dumps(NESTED)), ("jobs.yaml", json.dumps([NESTED])), ("jobs.csv", _table())],
)
def test_files_of_jobs(name: str, text: str, wanted: str, folder: Path, tmp_path: Path) -> None:
    path, out = tmp_path / name, tmp_path / "out"
    path.write_text(text)
    assert main(["batch", str(path), "--out", str(out), "--wildcards", str(folder)]) == 0
    (file,) = out.glob("*.png")
    assert pixels(file) == wanted


@pytest.mark.thorough
def test_lines_of_a1111(folder: Path, tmp_path: Path) -> None:
    """They name no method and hold LoRAs as tags: the same as Python's door makes of that."""
    request = RenderRequest(
        prompt=f"{PROMPT} <lora:zorp:1>", negative_prompt="text", seed=SEED, num_inference_steps=STEPS
    )
    wanted = Engine(wildcards=folder).render(request).record.pixels_sha256
    path, out = tmp_path / "jobs.txt", tmp_path / "out"
    path.write_text(LINE)
    assert main(["batch", str(path), "--out", str(out), "--wildcards", str(folder)]) == 0
    (file,) = out.glob("*.png")
    assert pixels(file) == wanted


def test_http(wanted: str, service: Service) -> None:
    asked = {**JOB, "adapters": [{"name": "zorp"}], "parameters": {"interval": 1}}
    job = Calls(service).submit(asked)["job"]
    service.wait(job, 300)
    (kept,) = service.history.pictures(job)
    assert pixels(service.history.file(kept.id)) == wanted


def test_the_page(wanted: str, service: Service) -> None:
    request = parse_request({**JOB, "adapters": [{"name": "zorp"}], "parameters": {"interval": 1}})
    (drafted,) = Draft.from_request(request).requests()
    job = service.submit(Asked((drafted,))).id
    service.wait(job, 300)
    (kept,) = service.history.pictures(job)
    assert pixels(service.history.file(kept.id)) == wanted
