"""The server from outside: the API by its own client and by plain HTTP, its door, its limits, its sudden end."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from composer.request import AdapterUse, RenderRequest
from pipelines.engine import Engine
from tests.server import Server, free_port

pytestmark = pytest.mark.thorough

README = Path(__file__).parents[2] / "README.md"
ADDRESS = "http://127.0.0.1:7860"
SMALL = {"prompt": "a meadow", "num_inference_steps": 2}


@pytest.fixture(scope="module")
def client(server: Server) -> Client:
    return Client(server.address, verbose=False, analytics_enabled=False)


def call(server: Server, name: str, *values: Any, **headers: str) -> Any:
    """Call an endpoint as any program could: one POST, then one GET that streams the answer."""
    body = json.dumps({"data": values}).encode()
    address = f"{server.address}/gradio_api/call/{name}"
    asked = urllib.request.Request(address, body, {"content-type": "application/json", **headers})
    with urllib.request.urlopen(asked) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(urllib.request.Request(f"{address}/{event}", headers=headers)) as answer:
        said = answer.read().decode()
    kind, data = said.strip().rsplit("event: ", 1)[1].split("\ndata: ", 1)
    assert kind == "complete", said
    return json.loads(data)[0]


def test_the_client_of_gradio_renders(client: Client) -> None:
    request = {**SMALL, "adapters": [{"name": "zorp", "weight": 0.7}], "seed": 3}
    done = client.predict(request, 2, api_name="/render")
    assert (done["state"], [one["record"]["seed"] for one in done["pictures"]]) == ("done", [3, 4])
    asked = RenderRequest(**SMALL, adapters=(AdapterUse(name="zorp", weight=0.7),), seed=3)
    same = Engine().render_many([asked, asked.model_copy(update={"seed": 4})])
    assert [one["record"]["pixels_sha256"] for one in done["pictures"]] == [one.record.pixels_sha256 for one in same]


def test_plain_http_renders_and_finds(server: Server) -> None:
    job = call(server, "submit", {**SMALL, "prompt": "plain snow"}, 1)["job"]
    while (told := call(server, "job", job))["state"] in ("waiting", "running"):
        time.sleep(0.05)
    with urllib.request.urlopen(f"{server.address}/{told['pictures'][0]['address']}") as answer:
        assert answer.read(8) == b"\x89PNG\r\n\x1a\n"
    assert [one["id"] for one in call(server, "search", "plain snow", 9)["pictures"]] == [told["pictures"][0]["id"]]
    assert call(server, "cost", {**SMALL, "method": "composite", "adapters": [{"name": "zorp"}]})["unet_passes"] == 2
    assert len(call(server, "loras")["loras"]) >= 22
    assert "tiny" in call(server, "methods")["models"]


def examples(language: str) -> list[str]:
    """Return the blocks of the README in a language, of those that speak to a server."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    return [one for one in blocks if ADDRESS in one]


def test_the_readmes_python_works_as_it_stands(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = [one for one in examples("python") if "gradio_client" in one]
    exec(block.replace(ADDRESS, server.address), {})
    address = capsys.readouterr().out.split()[-1]
    with urllib.request.urlopen(f"{server.address}/{address}") as answer:
        assert answer.read(4) == b"\x89PNG"


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_readmes_plain_http_works_as_it_stands(server: Server) -> None:
    (block,) = [one for one in examples("") if "curl" in one]
    submit, look = (line.replace(ADDRESS, server.address) for line in block.splitlines())
    job = json.loads(subprocess.run(submit, shell=True, capture_output=True, check=True).stdout)["job"]
    told: dict[str, Any] = {"state": "waiting"}
    while told["state"] in ("waiting", "running"):
        told = json.loads(subprocess.run(look.replace("JOB", job), shell=True, capture_output=True, check=True).stdout)
    assert (told["state"], len(told["pictures"])) == ("done", 2)


def test_the_names_of_the_api_are_stable(client: Client) -> None:
    told = client.view_api(return_format="dict")
    assert isinstance(told, dict)
    names = set(told["named_endpoints"])
    assert names == {
        f"/{name}" for name in ("render", "submit", "job", "cancel", "cost", "search", "loras", "methods", "limits")
    }


@pytest.mark.parametrize(
    ("request_", "count", "message"),
    [
        ({"prompt": "a", "methd": "merge"}, 1, "unknown key 'methd'"),
        ({"prompt": "a", "num_inference_steps": -1}, 1, "num_inference_steps"),
        ({"prompt": "a", "model": "/etc"}, 1, "not offered here"),
        ({"prompt": "a", "adapters": [{"name": "../../x.safetensors"}]}, 1, "not in the zoo"),
        ({"prompt": "a", "num_inference_steps": 1000, "width": 8192, "height": 8192}, 1, "at most"),
        ({"prompt": "a"}, 1_000_000, "count is a whole number"),
    ],
)
def test_mistakes_are_told(client: Client, request_: dict[str, Any], count: int, message: str) -> None:
    with pytest.raises(AppError, match=message):
        client.predict(request_, count, api_name="/submit")


@pytest.mark.parametrize(
    "path",
    [
        "medley/pictures/..%2f..%2fhistory.sqlite.png",
        "medley/pictures/x.png",
        "medley/jobs/x",
        "medley/thumbnails/..%2f..%2fapp.py",
        "medley/loras/406f38116355faaa7ed68726468c66adc1f991193ceee7caa647ce59244ea362",
        "gradio_api/file=/etc/hostname",
        "gradio_api/file=app.py",
    ],
)
def test_files_are_given_away_by_id_only(server: Server, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{server.address}/{path}")
    assert refused.value.code in (403, 404)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Server]:
    one = Server(tmp_path, free_port(), ("--auth", "ada:secret"))
    one.start()
    yield one
    if one.process.poll() is None:
        one.stop()


def test_only_who_knows_the_password_comes_in_and_a_killed_server_loses_nothing(guarded: Server) -> None:
    for path in ("", "medley/page.js", "gradio_api/info"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{guarded.address}/{path}")
    key = {"Authorization": f"Basic {base64.b64encode(b'ada:secret').decode()}"}
    jobs = [call(guarded, "submit", {**SMALL, "seed": seed}, 1, **key)["job"] for seed in range(3)]
    long = call(guarded, "submit", {**SMALL, "num_inference_steps": 400}, 1, **key)["job"]
    after = call(guarded, "submit", {**SMALL, "prompt": "after"}, 1, **key)["job"]
    until(guarded, long, "running", key)
    guarded.stop(kill=True)
    guarded.start()
    assert [call(guarded, "job", job, **key)["state"] for job in jobs] == ["done"] * 3
    assert call(guarded, "job", long, **key)["state"] in ("waiting", "running")
    call(guarded, "cancel", long, **key)
    until(guarded, after, "done", key)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Server]:
    one = Server(tmp_path, free_port())
    one.start()
    yield one
    one.stop()


def typed(server: Server, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
    """Call the typed API; return the status and the answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    asked = urllib.request.Request(f"{server.address}/medley/api/{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(asked) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def resident(server: Server) -> int:
    """Return the bytes of memory that a server has."""
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS"))) << 10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read as Linux tells it")
def test_a_thousand_submits_take_no_memory_and_none_that_was_accepted_is_lost(fresh: Server) -> None:
    def send(seed: int) -> tuple[int, dict[str, Any]]:
        return typed(fresh, "POST", "jobs", {"request": {"prompt": "a", "num_inference_steps": 1, "seed": seed}})

    def done(jobs: list[str]) -> bool:
        return all(typed(fresh, "GET", f"jobs/{job}")[1]["state"] == "done" for job in jobs)

    with ThreadPoolExecutor(8) as visitors:
        first = [told["job"] for _, told in visitors.map(send, range(100))]
        while not done(first[-1:]):
            time.sleep(0.1)
        before = resident(fresh)  # all that is loaded once is loaded
        answers = list(visitors.map(send, range(100, 1100)))
    accepted = [told["job"] for status, told in answers if status == 201]
    refused = [told["detail"] for status, told in answers if status == 429]
    assert len(accepted) + len(refused) == 1000 and len(accepted) >= 200
    assert all("try again in a while" in told for told in refused)
    while not done(accepted[-1:]):
        time.sleep(0.1)
    assert done(accepted)
    assert resident(fresh) - before < 64 << 20


def until(server: Server, job: str, state: str, key: dict[str, str]) -> None:
    while (now := call(server, "job", job, **key)["state"]) != state:
        assert now in ("waiting", "running")
        time.sleep(0.1)
