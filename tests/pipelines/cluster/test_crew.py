"""What of a cluster needs no Ray: addresses, shares of machines, what a machine must have, and who is given what."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from app import main
from pipelines.cluster import connect, renderer
from pipelines.cluster.crew import Machine
from pipelines.cluster.errors import NoCluster
from pipelines.cluster.renderer import Asked, Home, Renderer, Trouble
from pipelines.engine import Engine
from pipelines.jobs import identity, worker
from pipelines.jobs.ledger import Ledger
from pipelines.model import LoadedModel
from tests.adapters import five
from tests.pipelines.cluster.files import on_files
from tests.pipelines.jobs.folders import start


@pytest.fixture
def asked(small: LoadedModel, small_folder: Path, tmp_path: Path) -> list[Asked]:
    engine = Engine()
    resolved = [engine.resolve(one) for one in on_files(five(small.layout), small_folder, tmp_path, 4)]
    return [Asked(identity.digest(one), one.request) for one in resolved]


@pytest.mark.parametrize("address", ["", "here", "host", "ray://host:10001", "host:port", "http://host:6379"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(NoCluster, match="HOST:PORT"):
        connect.check(address)


def test_without_ray_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connect, "find_spec", lambda name: None if name == "ray" else importlib.util.find_spec(name))
    (tmp_path / "jobs.jsonl").write_text('{"prompt": "a cat"}\n')
    assert main(["batch", str(tmp_path / "jobs.jsonl"), "--out", str(tmp_path / "out"), "--ray", "local"]) == 2
    assert "install requirements-cluster.txt" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("resources", "per_machine", "told"),
    [
        ({"CPU": 8.0}, 1, (1, 8, 0)),
        ({"CPU": 8.0}, 3, (3, 2, 0)),
        ({"CPU": 1.0}, 2, (2, 0.5, 0)),
        ({"CPU": 16.0, "GPU": 4.0}, 1, (4, 4, 1)),
        ({"CPU": 16.0, "GPU": 1.0}, 2, (2, 8, 0.5)),
        ({"memory": 1e9}, 1, (0, 0, 0)),
    ],
)
def test_a_machine_is_shared(resources: dict[str, float], per_machine: int, told: tuple[float, ...]) -> None:
    names = {"NodeID": "n", "NodeName": "1.2.3.4", "NodeManagerAddress": "1.2.3.4", "NodeManagerHostname": "h"}
    found = Machine.of({**names, "Resources": resources}, per_machine)
    assert found.host == "h"
    assert (found.seats, found.cpus, found.gpus) == told


def test_a_machine_renders_what_was_planned(asked: list[Asked]) -> None:
    there = Renderer()
    assert there.fit(Home.here(), 1) is None
    made = there.render(asked)
    again = [worker.encoded(one) for one in Engine().render_many([one.request for one in asked])]
    assert isinstance(made, list) and [one.data for one in made] == [one.data for one in again]


def test_a_machine_with_other_files_is_told_apart_from_a_job_that_raises(asked: list[Asked], tmp_path: Path) -> None:
    there = Renderer()
    other = there.render([replace(asked[0], digest="0" * 64)])
    assert isinstance(other, Trouble) and other.of_machine and "has other files" in other.told
    (tmp_path / "lora0.safetensors").unlink()
    missing = there.render(asked[:1])
    assert isinstance(missing, Trouble) and missing.of_machine and "lora0" in missing.told


def test_what_a_job_raises_is_its_own(asked: list[Asked], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: Engine, _requests: Sequence[object]) -> None:
        raise RuntimeError("no kernel for this")

    monkeypatch.setattr(Engine, "render_many", fail)
    assert Renderer().render(asked) == Trouble("RuntimeError: no kernel for this", of_machine=False)


@pytest.mark.parametrize("change", [{"code": "x"}, {"versions": ("torch 0",)}, {"folder": "/no/such/folder"}])
def test_a_machine_that_is_set_up_otherwise_is_not_fit(change: dict[str, object]) -> None:
    found = Renderer().fit(replace(Home.here(), **change), 1)  # type: ignore[arg-type]
    assert found is not None and found.of_machine


def test_the_code_s_digest_is_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("lora_zoo/a.py", "1"), ("composer/b.py", "2"), ("pipelines/c/d.py", "3")):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(renderer, "_HERE", tmp_path)
    before = renderer.code()
    (tmp_path / "pipelines" / "note.txt").write_text("no code")
    assert renderer.code() == before
    (tmp_path / "pipelines/c/d.py").write_text("4")
    assert renderer.code() != before


def test_a_chosen_go_is_claimed_whole(
    tmp_path: Path, small: LoadedModel, small_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.jobs.planning.TOGETHER", 2)
    start(tmp_path, Engine(), on_files(five(small.layout), small_folder, tmp_path, 8))
    ledger = Ledger(tmp_path)
    with ledger.owners.enter() as owner:
        offered: list[list[int]] = []
        claim = ledger.claim(owner, lambda goes: offered.append(list(goes)) or goes[2])
    assert claim is not None and offered == [[1, 2, 3, 4]]
    assert {one.go for one in claim.entries} == {3} and len(claim.wanted) == 2
    ledger.close()
