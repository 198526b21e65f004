"""No event of the page takes a file that was not uploaded to it, however it is named, and no address gives one away."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.security.attacker import Attacker
from tests.server import ROOT, Server

META = {"_type": "gradio.FileData"}


def named(path: str, port: int) -> Iterator[object]:
    """Yield the ways in which gradio, or an older one, may take a value for a file of this path."""
    whole = {"path": path, "meta": META}
    yield whole
    yield {"path": path}
    yield {"path": path, "meta": {}}
    yield {**whole, "is_stream": True}
    yield {**whole, "url": f"file://{path}"}
    yield {**whole, "url": f"http://127.0.0.1:{port}/gradio_api/file={path}"}
    yield {**whole, "orig_name": "x.png", "mime_type": "image/svg+xml", "size": 1}
    yield [whole]
    yield [[whole], {"a": [whole]}]
    yield {"items": [whole], "selected": "x"}
    yield {"values": {"second_pass": True, "scale": whole, "undesired": whole}, "fields": [whole]}
    yield {"image": whole, "mask": whole, "strength": 1}
    yield {"value": whole, "__type__": "update"}
    yield {"jobs": [whole], "a": {"b": {"c": {"d": whole}}}}
    yield json.dumps(whole)
    yield path


def spelled(path: Path) -> Iterator[str]:
    """Yield spellings of a path."""
    yield str(path)
    yield os.path.relpath(path, ROOT)
    yield f"file://{path}"
    yield f"/proc/self/root{path}"


def copies(folder: Path, secret: Path) -> list[Path]:
    """Return the files below a folder that hold what a secret holds."""
    data = secret.read_bytes()
    same = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size == len(data)]
    return [path for path in same if path.read_bytes() == data]


def paths_in(value: Any) -> Iterator[str]:
    """Yield the paths and addresses of files that an answer names."""
    if isinstance(value, dict):
        yield from (value[key] for key in ("path", "url") if isinstance(value.get(key), str))
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from paths_in(item)


def attacks(attacker: Attacker, secret: Path) -> list[tuple[int, list[Any]]]:
    """Return every event with every value in all of its inputs, and each field attacked alone in a few events."""
    page = attacker.config()
    initial = {one["id"]: one["props"].get("value") for one in page["components"]}
    first, *others = spelled(secret)
    values = [*named(first, attacker.port), *(next(named(path, attacker.port)) for path in others)]
    found: list[tuple[int, list[Any]]] = []
    alone: Counter[int] = Counter()
    for event in page["dependencies"]:
        if not event["backend_fn"]:
            continue
        own = [initial[one] for one in event["inputs"]]
        found.extend((event["id"], [value] * len(own)) for value in values)
        for place, field in enumerate(event["inputs"]):
            alone[field] += 1
            if alone[field] > 3:
                continue
            mixed = [*own[:place], values[9 + place % 5], *own[place + 1 :]]
            found.append((event["id"], mixed))
    return found


@pytest.mark.timeout(600)  # some thousand calls
def test_no_event_takes_a_foreign_file(attacker: Attacker, server: Server, secret: Path) -> None:
    calls = attacks(attacker, secret)
    events = {number for number, _ in calls}
    told: list[dict[str, Any]] = []
    for start in range(0, len(calls), 100):
        told.extend(attacker.events(calls[start : start + 100]))
    assert len(events) >= 40 and len(calls) >= 19 * len(events)
    echoed = {one for answer in told if answer["success"] for one in paths_in(answer["output"]["data"])}
    for path in sorted(echoed):
        address = path if path.startswith("/gradio_api") else f"/gradio_api/file={quote(path)}"
        assert secret.read_bytes() not in attacker.ask("GET", address).body, path
    assert copies(server.data, secret) == []
    assert not any(secret.read_text("utf-8") in json.dumps(answer) for answer in told)


def test_no_event_past_the_queue_takes_one(attacker: Attacker, server: Server, secret: Path) -> None:
    values = [*named(str(secret), attacker.port)]
    events = [one for one in attacker.config()["dependencies"] if one["backend_fn"] and not one["queue"]]
    assert len(events) >= 4
    for event in events:
        for value in values:
            asked = {"fn_index": event["id"], "data": [value] * len(event["inputs"]), "session_hash": "x"}
            answer = attacker.json("POST", "/gradio_api/run/predict", {**asked, "event_data": value})
            assert secret.read_text("utf-8") not in answer.text
            assert not [path for path in paths_in(json.loads(answer.body))]
    assert copies(server.data, secret) == []


@pytest.mark.parametrize("address", ["file=", "file/", "proxy=", "stream/", "proxy=http://127.0.0.1/file="])
def test_no_address_of_gradios_gives_files(attacker: Attacker, secret: Path, address: str) -> None:
    for spelling in (*spelled(secret), f"{ROOT}/app.py", "app.py", "/etc/hostname"):
        for path in (spelling, quote(spelling), quote(spelling, safe=""), f"/{spelling}", f"..{spelling}"):
            answer = attacker.ask("GET", f"/gradio_api/{address}{path}")
            assert answer.status in (400, 403, 404, 405), (path, answer.status)
            assert secret.read_bytes() not in answer.body


@pytest.mark.parametrize("name", ["../../x.png", "..\\x.png", "/etc/x.png", "a/../../x.png", "x\u0000.png", "." * 300])
def test_an_upload_stays_where_uploads_lie(attacker: Attacker, server: Server, secret: Path, name: str) -> None:
    answer = attacker.upload(name, secret.read_bytes())
    if answer.status == 200:
        (ticket,) = json.loads(answer.body)
        assert not Path(ticket).is_absolute() and ".." not in Path(ticket).parts
        assert str(server.data) not in answer.text
    places = copies(server.data, secret)
    assert all(path.is_relative_to(server.data / "incoming") for path in places)
    for path in places:
        path.unlink()


def test_what_was_uploaded_is_still_taken_once(attacker: Attacker, server: Server) -> None:
    """The event of the tab of jobs takes a file of jobs, and finds the mistake in it; then the file is gone."""
    page = attacker.config()
    (field,) = [one["id"] for one in page["components"] if one["props"].get("elem_id") == "batch"]
    (event,) = [one["id"] for one in page["dependencies"] if one["inputs"] == [field]]
    (path,) = json.loads(attacker.upload("jobs.jsonl", b'{"promptt": "a"}').body)
    sent = [{"path": path, "meta": META}]
    (told,) = attacker.events([(event, sent)])
    assert not told["success"] and "promptt" in told["output"]["error"]
    (told,) = attacker.events([(event, sent)])  # a ticket is good once
    assert not told["success"] and "send it again" in told["output"]["error"]
    assert not [path for path in (server.data / "incoming").rglob("*.jsonl")]
