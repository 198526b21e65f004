"""What stops others' servers for good: a locked history, rows of another version, a second server, damaged files."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lora_zoo.index.folders import lora
from tests.server import ROOT, Server, free_port
from tests.ui.waiting import until

SMALL = {"prompt": "a meadow", "num_inference_steps": 2}
NOT_UTF8 = os.fsdecode(b"caf\xe9.safetensors")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    zoo = tmp_path_factory.mktemp("zoo")
    lora(zoo / NOT_UTF8, 1)
    found = Server(tmp_path_factory.mktemp("data"), free_port(), ("--zoo", str(zoo)))
    found.start()
    yield found
    found.stop()


def asked(server: Server, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{server.address}{path}", data, {"content-type": "application/json"}, method=method
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def health(server: Server) -> tuple[int, dict[str, Any]]:
    return asked(server, "GET", "/medley/health")


def submitted(server: Server, **fields: object) -> str:
    status, answer = asked(server, "POST", "/medley/api/jobs", {"request": {**SMALL, **fields}})
    assert status == 201, answer
    return answer["job"]


def state(server: Server, job: str) -> str:
    return asked(server, "GET", f"/medley/api/jobs/{job}")[1]["state"]


@contextmanager
def history(server: Server) -> Iterator[sqlite3.Connection]:
    """Open the server's history as another program does."""
    with closing(sqlite3.connect(server.data / "history.sqlite", isolation_level=None, timeout=60)) as found:
        yield found


def refused(data: Path) -> str:
    """Start a server that must not start; return what it says."""
    command = [sys.executable, "app.py", "ui", "--port", str(free_port()), "--data", str(data)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MEDLEY_CACHE": str(data / "cache")}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 2 and "Traceback" not in ran.stderr, ran.stderr
    return ran.stderr


def test_a_locked_history_is_told_and_waited_out(server: Server) -> None:
    with history(server) as other:
        job = submitted(server, num_inference_steps=40)
        until(lambda: state(server, job) == "running")
        other.execute("BEGIN IMMEDIATE")
        until(lambda: health(server)[0] == 503)
        told = health(server)[1]
        assert (told["ready"], told["worker"]) == (False, "hindered")
        assert told["error"] == "the history cannot be used at the moment: database is locked"
        jobs = other.execute("SELECT count(*) FROM jobs").fetchone()
        status, answer = asked(server, "POST", "/medley/api/jobs", {"request": SMALL})
        assert status == 503 and "database is locked" in answer["detail"]
        assert other.execute("SELECT count(*) FROM jobs").fetchone() == jobs
        assert asked(server, "GET", "/medley/api/pictures")[0] == 200  # who reads need not wait
        other.execute("ROLLBACK")
    until(lambda: state(server, job) == "done")
    assert len(asked(server, "GET", f"/medley/api/jobs/{job}")[1]["pictures"]) == 1
    until(lambda: health(server)[0] == 200)
    again = submitted(server)
    until(lambda: state(server, again) == "done")


def test_a_job_of_another_version_is_put_aside(server: Server) -> None:
    content = json.dumps([{**SMALL, "key_of_another_version": 1}])
    with history(server) as other:
        other.execute(
            "INSERT INTO jobs (id, place, kind, title, owner, requests, labels, state, created) "
            "VALUES ('other', 0, 'render', '', '', ?, '[[],[],[]]', 'waiting', 0)",
            (content,),
        )
    job = submitted(server)
    until(lambda: state(server, job) == "done")
    answer = asked(server, "GET", "/medley/api/jobs/other")[1]
    assert answer["state"] == "failed" and "written by another version of Medley" in answer["error"]
    assert health(server)[0] == 200


def test_a_damaged_picture_is_told_and_left_out(server: Server) -> None:
    jobs = [submitted(server, prompt="an odd meadow", seed=seed) for seed in (1, 2)]
    until(lambda: all(state(server, job) == "done" for job in jobs))
    (picture,) = asked(server, "GET", f"/medley/api/jobs/{jobs[0]}")[1]["pictures"]
    with history(server) as other:
        other.execute("UPDATE pictures SET record = '{}' WHERE id = ?", (picture["id"],))
        other.execute("UPDATE jobs SET requests = '[{' WHERE id = ?", (jobs[0],))
    status, found = asked(server, "GET", "/medley/api/pictures?words=odd")
    assert status == 200 and [one["record"]["seed"] for one in found["pictures"]] == [2]
    assert [one["id"] for one in found["unreadable"]] == [picture["id"]]
    assert asked(server, "GET", f"/medley/api/jobs/{jobs[0]}")[1]["pictures"] == []
    status, answer = asked(server, "GET", f"/medley/pictures/{picture['id']}.png")
    assert status == 422 and "is damaged" in answer["detail"]


def test_a_file_whose_name_is_not_utf8_is_a_row_with_its_reason(server: Server) -> None:
    status, found = asked(server, "GET", "/medley/api/loras")
    reason = (
        "its name, or that of a folder on the way to it, is not UTF-8, so no request or record can name it; rename it"
    )
    assert (status, found["refused"]) == (200, [{"name": "caf\\udce9.safetensors", "error": reason}])
    with urllib.request.urlopen(server.address) as page:
        assert reason in page.read().decode()


def test_a_second_server_is_refused_with_the_address_of_the_first(server: Server) -> None:
    said = refused(server.data)
    assert server.address in said and f"process {server.process.pid}" in said
    assert health(server)[0] == 200


@pytest.mark.thorough
def test_a_server_that_was_killed_leaves_its_folder_to_the_next(tmp_path: Path) -> None:
    first = Server(tmp_path, free_port())
    first.start()
    job = submitted(first, num_inference_steps=200)
    until(lambda: state(first, job) == "running")
    first.stop(kill=True)
    second = Server(tmp_path, free_port())
    second.start()
    try:
        until(lambda: state(second, job) in ("running", "done"))
    finally:
        second.stop(kill=True)  # it may be reading its model, which on a busy machine takes long


@pytest.mark.thorough
def test_a_damaged_history_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "history.sqlite").write_bytes(b"no database" * 1000)
    said = " ".join(refused(tmp_path).split())
    assert "history.sqlite cannot be read (file is not a database). Move it away, or name another folder" in said
    (tmp_path / "history.sqlite").unlink()
