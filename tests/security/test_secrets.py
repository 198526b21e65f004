"""Nothing that the server tells says where its files lie: no answer, no header, and no picture that it gives away.

All of its folders lie below one whose name is a secret, and every address and event is asked for what it may tell.
"""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from eval import running
from eval.page import elements
from eval.running import Overrides, Wish
from tests.lora_zoo.index.folders import lora
from tests.security.attacker import Attacker, Reply
from tests.server import Server, free_port
from tests.ui.malformed import SOUND
from tests.ui.waiting import until
from ui import rest

SECRET = "secret-home-of-alice"
REQUEST = {"prompt": "zorp on a meadow", "num_inference_steps": 1, "width": 64, "height": 64}
#: What no field expects. None of them says the secret, or it would come back as what was typed.
WRONG: list[object] = ["none", "../x", "/", "", -1, 1e99, True, None, [], {}, ["none"], {"jobs": ["none"]}, "a" * 5000]
PLACES = ("none", "..%2f..%2fx", "%00", "a" * 300)


@dataclass(frozen=True)
class Watching(Attacker):
    """Looks for the secret in all that comes back."""

    def ask(self, method: str, path: str, *more: Any, **named: Any) -> Reply:
        answer = super().ask(method, path, *more, **named)
        for spelling in spelled(SECRET):
            assert spelling not in answer.body, (method, path, around(answer.body, spelling))
        assert SECRET not in json.dumps(dict(answer.headers)), (method, path)
        return answer


def spelled(text: str) -> Iterator[bytes]:
    """Yield how a text may stand in an answer, or in what a picture says of itself."""
    yield from (text.encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be"))


def around(body: bytes, found: bytes) -> bytes:
    place = body.index(found)
    return body[max(0, place - 200) : place + 100]


@dataclass(frozen=True)
class Told:
    """A server in a folder of which nobody is to learn, and a picture that it made."""

    server: Server
    asker: Watching
    model: str
    job: str
    picture: str


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, small_folder: Path) -> Iterator[Told]:
    home = tmp_path_factory.mktemp("machine") / SECRET
    shutil.copytree(small_folder, home / "models" / "my model")
    for zoo in ("loras", "more of mine"):
        lora(home / zoo / "cats" / "tabby.safetensors", len(zoo))
        lora(home / zoo / "same.safetensors", 1)
        (home / zoo / "broken.safetensors").write_bytes(b"no LoRA")
        shutil.copy(SOUND, home / zoo / "sound.safetensors")
    (home / "loras" / "link.safetensors").symlink_to(home / "nowhere.safetensors")
    run = home / "reports" / "compos"
    run.mkdir(parents=True)
    wish = Wish(
        suite=str(home / "suites" / "own.yaml"),
        mapped=None,
        sets=3,
        seeds=1,
        methods=("merge",),
        overrides=Overrides(),
        clip=None,
    )
    (run / running.FILE).write_text(wish.model_dump_json(), "utf-8")
    (run / "report.html").write_text(elements.page(elements.REPORT_TITLE, ["<h1>x</h1>"]), "utf-8")
    shutil.copytree(run, home / "reports" / "damaged")
    (home / "reports" / "damaged" / running.FILE).write_text("{", "utf-8")
    options = ("--zoo", str(home / "loras"), "--zoo", str(home / "more of mine"), "--reports", str(home / "reports"))
    server = Server(home / "data", free_port(), (*options, "--model", str(home / "models" / "my model")))
    server.start()
    yield made(server)
    server.stop()


def made(server: Server) -> Told:
    """Let the server make a picture."""
    asker = Watching("127.0.0.1", server.port)
    models = json.loads(asker.ask("GET", f"{rest.ROOT}/methods").body)["models"]
    loras = json.loads(asker.ask("GET", f"{rest.ROOT}/loras").body)["loras"]
    (model,) = [one for one in models if "my" in one]
    (sound,) = [one["handle"] for one in loras if one["name"] == "sound"][:1]
    order = {"request": {**REQUEST, "model": "tiny", "adapters": [{"name": sound, "weight": 0.5}]}}
    answer = asker.json("POST", f"{rest.ROOT}/jobs", order)
    assert answer.status == 201, answer.text
    job = json.loads(answer.body)["job"]
    until(lambda: standing(asker, job)["state"] == "done", 300)
    (picture,) = standing(asker, job)["pictures"]
    return Told(server, asker, model, job, picture["id"])


def standing(asker: Attacker, job: str) -> dict[str, Any]:
    return json.loads(asker.ask("GET", f"{rest.ROOT}/jobs/{job}").body)


def aged(told: Told) -> None:
    """Let the history say what one of an earlier version may say, which kept paths."""
    home = told.server.data.parent
    file = home / "loras" / "sound.safetensors"
    with closing(sqlite3.connect(told.server.data / "history.sqlite", isolation_level=None, timeout=60)) as other:
        (text,) = other.execute("SELECT record FROM pictures WHERE id = ?", (told.picture,)).fetchone()
        record = json.loads(text)
        record["model"], record["notices"] = str(home / "models" / "my model"), [f"{file} is large"]
        record["adapters"][0]["name"] = str(file)
        other.execute("UPDATE pictures SET record = ? WHERE id = ?", (json.dumps(record), told.picture))
        (text,) = other.execute("SELECT requests FROM jobs WHERE id = ?", (told.job,)).fetchone()
        requests = json.loads(text)
        requests[0]["adapters"][0]["name"] = str(file)
        other.execute(
            "UPDATE jobs SET requests = ?, title = ?, labels = ? WHERE id = ?",
            (json.dumps(requests), str(file), json.dumps([[f"without {file}"], [], []]), told.job),
        )


def test_no_address_tells(told: Told) -> None:
    asker = told.asker
    aged(told)
    described = json.loads(asker.ask("GET", f"{rest.ROOT}/openapi.json").body)
    values = (told.job, told.picture, "sound", *PLACES)
    for path, methods in described["paths"].items():
        start, parameter, end = path.partition("{")
        ways = [f"{start}{value}{end.partition('}')[2]}" for value in values] if parameter else [path]
        for method, way in ((method.upper(), way) for method in methods for way in ways):
            if (method, path) == ("DELETE", f"{rest.ROOT}/loras/{{handle}}") and "sound" in way:
                continue  # the others need it
            asker.ask(method, way, b"" if method == "POST" else None)
            for request in requests(told.model):
                asker.json(method, way, {"request": request})
    for value in values:
        own = (
            "pictures/{}.png",
            "pictures/{}.gif",
            "held/{}.png",
            "jobs/{}",
            "thumbnails/{}",
            "loras/{}",
            "reports/{}",
        )
        for way in own:
            asker.ask("GET", f"/medley/{way.format(value)}")
    for path in ("/", "/config", "/gradio_api/info", "/gradio_api/openapi.json", "/medley/health", "/medley/page.js"):
        assert asker.ask("GET", path).status == 200
    asker.upload("x.jsonl", b"{}")
    asker.ask("POST", "/medley/held", b"no picture")


def requests(model: str) -> Iterator[object]:
    """Yield requests, sound ones and others."""
    yield {**REQUEST, "adapters": [{"name": "sound"}]}
    for change in (
        {"model": model},
        {"model": "my"},
        {"model": model, "adapters": [{"name": "zorp"}]},
        {"model": model, "scheduler": "none"},
        {"adapters": [{"name": "broken"}]},
        {"adapters": [{"name": "cats/tabby"}]},
        {"adapters": [{"name": "same"}]},
        {"adapters": [{"name": "link"}]},
        {"adapters": [{"name": "sounds"}]},
        {"start": {"image": "held:" + "0" * 64}},
        {"start": {"image": "x.png"}},
        {"prompt": "__none__"},
        {"method": "none"},
        {"parameters": {"none": 1}},
    ):
        yield {**REQUEST, **change}
    yield from WRONG


@pytest.mark.timeout(600)  # some thousand events
def test_no_event_tells(told: Told) -> None:
    """Each event by what its fields have at first, by what they have after a visit, and by what none expects."""
    aged(told)
    asker, page = told.asker, told.asker.config()
    fields: dict[int, Any] = {one["id"]: one["props"].get("value") for one in page["components"]}
    events = [one for one in page["dependencies"] if one["backend_fn"]]
    gallery = {"items": [{"id": told.picture}], "selected": told.picture, "jobs": [told.job]}
    galleries = {
        one["id"]
        for one in page["components"]
        if isinstance(one["props"].get("value"), dict) and "items" in one["props"]["value"]
    }
    assert len(events) >= 40 and len(galleries) >= 3
    fields |= dict.fromkeys(galleries, gallery)
    for detail in ({"id": told.picture}, {"id": told.job, "action": "show"}, {"id": "none"}, None):
        calls = [(one["id"], [fields[field] for field in one["inputs"]]) for one in events]
        for event, ended in zip(events, asker.events(calls, detail), strict=True):
            if ended["success"]:
                kept = settled(event["outputs"], ended["output"]["data"])
                fields |= {field: value for field, value in kept.items() if field not in galleries}
    for wrong in WRONG:
        calls = [(one["id"], [wrong] * len(one["inputs"])) for one in events]
        asker.events(calls, {"id": wrong})
    named = [one for one in events if one["api_visibility"] == "public"]
    assert len(named) == 9
    for request in (*requests(told.model), told.job):
        asker.events([(one["id"], [request, 1][: len(one["inputs"])]) for one in named])


def settled(fields: list[int], data: list[Any]) -> Mapping[int, Any]:
    """Return what fields have once an event is over; those that it leaves alone are not among them."""
    found: dict[int, Any] = {}
    for field, value in zip(fields, data, strict=True):
        if not isinstance(value, dict) or value.get("__type__") != "update":
            found[field] = value
        elif "value" in value:
            found[field] = value["value"]
    return found


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "avif"])
def test_no_picture_tells(told: Told, suffix: str) -> None:
    answer = told.asker.ask("GET", f"/medley/pictures/{told.picture}.{suffix}?download=true")
    assert answer.status == 200
    with Image.open(io.BytesIO(answer.body)) as picture:
        picture.load()
        stated = repr((picture.info, dict(picture.getexif()), picture.getexif().get_ifd(0x8769)))
    assert SECRET not in stated.replace("\\x00", "") and "zorp on a meadow" in stated.replace("\\x00", "")
