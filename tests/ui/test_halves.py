"""Halves of characters in what is asked for, at every door: a typed error in words that can be sent and printed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from composer.errors import BadRequest
from composer.request import RenderRequest, parse_request
from lora_zoo.errors import ZooError
from pipelines.engine import Engine
from pipelines.jobs import planning, sources
from ui import rest
from ui.calls import Calls
from ui.forms import Draft
from ui.service import Service

ROOT = Path(__file__).parents[2]
REQUESTS = (
    '{"prompt": "a \\ud800"}',
    '{"negative_prompt": "\\udfff"}',
    '{"undesired": "\\udc00"}',
    '{"prompt": "{a|\\ud800}"}',
    '{"method": "\\ud800"}',
    '{"scheduler": "\\ud800"}',
    '{"model": "\\ud800"}',
    '{"parameters": {"\\ud800": 1}}',
    '{"parameters": {"x": ["\\ud800"]}}',
    '{"\\ud800": 1}',
    '{"adapters": [{"name": "\\ud800"}]}',
    '{"adapters": [{"name": "zorp", "\\ud800": 1}]}',
    '{"adapters": [{"name": "zorp", "words": ["\\ud800"]}]}',
    '{"adapters": [{"name": "zorp", "blocks": {"\\ud800": "x"}}]}',
    '{"adapters": [{"name": "zorp", "region": {"box": [0, 0, 1, 1], "prompt": "\\ud800"}}]}',
    '{"start": {"image": "\\ud800"}}',
)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(Engine(), tmp_path)
    yield made
    made.stop()


@pytest.mark.parametrize("text", REQUESTS)
def test_http_and_python(text: str, service: Service) -> None:
    app = FastAPI()
    rest.add(app, service)
    client = TestClient(app, raise_server_exceptions=False)
    headers = {"content-type": "application/json"}
    for address, body in (("jobs", f'{{"request": {text}}}'), ("cost", f'{{"request": {text}}}')):
        answer = client.post(f"{rest.ROOT}/{address}", content=body, headers=headers)
        assert answer.status_code == 422, answer.text
        answer.json()["detail"].encode("utf-8")
    for act in (parse_request, Calls(service).submit, Calls(service).cost):
        with pytest.raises(BadRequest) as raised:
            act(json.loads(text))
        str(raised.value).encode("utf-8")


@pytest.mark.parametrize("text", REQUESTS)
def test_a_line_of_jobs(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(ZooError, match="a.jsonl line 1") as raised:
        planning.plan(Engine(), sources.read(tmp_path / "a.jsonl").drafts, ())
    str(raised.value).encode("utf-8", "backslashreplace")


def test_words_to_search_for(service: Service) -> None:
    with pytest.raises(BadRequest, match="half of a character"):
        Calls(service).search("\ud800")


def test_the_page() -> None:
    for field in ("prompt", "negative_prompt", "scheduler"):
        with pytest.raises(BadRequest, match="half of a character"):
            Draft.model_validate({field: "\ud800"}).request()


def test_python() -> None:
    with pytest.raises((BadRequest, ValueError), match="half of a character"):
        RenderRequest(scheduler="\ud800")


def test_the_command_line() -> None:
    command = [sys.executable, "app.py", "render", "--prompt", b"caf\xe9", "--dry-run"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=300)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert b"is not text in UTF-8" in done.stderr
