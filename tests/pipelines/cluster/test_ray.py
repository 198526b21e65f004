"""Real Ray clusters on this machine: nodes that join and are killed, processes that die, and the same files in the end.

`.ci/run` installs requirements-cluster.txt and runs these; the default run leaves them out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app import main
from composer.request import RenderRequest
from pipelines.cluster import driver
from pipelines.cluster.driver import Place
from pipelines.cluster.errors import NoCluster
from pipelines.engine import Engine
from pipelines.jobs import worker
from pipelines.jobs.ledger import Ledger
from pipelines.jobs.states import State
from pipelines.jobs.worker import Event
from pipelines.model import LoadedModel
from tests import no_network
from tests.adapters import five
from tests.pipelines.cluster.files import Meeting, Poisoned, on_files
from tests.pipelines.jobs.folders import start, tree

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

_JOBS = 40


@pytest.fixture(autouse=True)
def small_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deal jobs into many goes, so that there is something to do for everybody at any time."""
    monkeypatch.setattr("pipelines.jobs.planning.TOGETHER", 4)


@pytest.fixture
def asked(small: LoadedModel, small_folder: Path, tmp_path: Path) -> list[RenderRequest]:
    (tmp_path / "loras").mkdir()
    return on_files(five(small.layout), small_folder, tmp_path / "loras", _JOBS)


@pytest.fixture
def whole(asked: list[RenderRequest], tmp_path: Path) -> Path:
    """The same batch by one process, undisturbed."""
    start(tmp_path / "whole", Engine(), asked)
    worker.work(tmp_path / "whole", Engine(), lambda _: None)
    return tmp_path / "whole"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster whose first machine only keeps it together: it has no processor to lend."""
    from ray.cluster_utils import Cluster  # type: ignore[import-not-found]

    found: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    host = found.address.split(":")[0]  # this machine by its own address, as its other nodes know it
    monkeypatch.setattr(no_network, "_LOCAL", (*no_network._LOCAL, host))  # noqa: SLF001
    yield found
    found.shutdown()


def running(folder: Path) -> int:
    ledger = Ledger(folder)
    found = ledger.counts()[State.RUNNING]
    ledger.close()
    return found


def test_a_machine_that_is_killed_loses_nothing(
    cluster: Any, asked: list[RenderRequest], whole: Path, tmp_path: Path
) -> None:
    """Two nodes at work; one is killed while it has jobs in hand, which the other one does."""
    cluster.add_node(num_cpus=1, node_name="stays")
    doomed = [cluster.add_node(num_cpus=1, node_name="dies")]
    start(tmp_path / "out", Engine(), asked)
    (tmp_path / "there").mkdir()
    done: list[Event] = []
    in_hand: list[int] = []

    def on_event(event: Event) -> None:
        done.append(event)
        if doomed:
            in_hand.append(running(tmp_path / "out"))
            cluster.remove_node(doomed.pop(), allow_graceful=False)

    place = Place(cluster.address, engine=partial(Meeting, tmp_path / "there"))
    driver.work(tmp_path / "out", place, on_event, lambda _: None)
    assert in_hand[0] > 4 and {one.machine for one in done} == {"stays"}
    assert sorted(one.file for one in done) == sorted(path.name for path in whole.glob("*.png"))
    assert tree(tmp_path / "out") == tree(whole)


def test_machines_may_join_and_die(cluster: Any, asked: list[RenderRequest], whole: Path, tmp_path: Path) -> None:
    """Nobody is there at first; one comes and is killed, and another takes over."""
    start(tmp_path / "out", Engine(), asked)
    done: list[Event] = []
    told: list[str] = []
    there: list[Any] = []

    def on_told(text: str) -> None:
        told.append(text)
        if text.startswith("no machine is there"):
            there.append(cluster.add_node(num_cpus=1, node_name=f"number {told.count(text)}"))

    def on_event(event: Event) -> None:
        done.append(event)
        if len(done) == 1:
            cluster.remove_node(there.pop(), allow_graceful=False)

    driver.work(tmp_path / "out", Place(cluster.address), on_event, on_told)
    assert [one for one in told if one.startswith("machine")] == [
        "machine number 1 has joined",
        "machine number 1 has left",
        "machine number 2 has joined",
    ]
    assert {one.machine for one in done} == {"number 1", "number 2"} and len(done) == _JOBS
    assert tree(tmp_path / "out") == tree(whole)


def test_a_job_that_kills_its_process_is_put_aside(
    cluster: Any, asked: list[RenderRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.cluster.crew.Renderer", Poisoned)
    cluster.add_node(num_cpus=1)
    asked[5] = asked[5].model_copy(update={"prompt": "poison"})
    start(tmp_path / "out", Engine(), asked)
    told: list[str] = []
    driver.work(tmp_path / "out", Place(cluster.address), lambda _: None, told.append)
    ledger = Ledger(tmp_path / "out")
    (poison,) = (one for one in ledger.entries() if one.request.prompt == "poison")
    others = {one.state for one in ledger.entries() if one.request.prompt != "poison"}
    ledger.close()
    assert poison.state is State.QUARANTINED and poison.error == "the process died 3 times"
    assert others == {State.DONE}
    assert len([one for one in told if "died" in one]) == 3


def test_the_command_starts_a_cluster_of_its_own(
    asked: list[RenderRequest], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text("".join(one.model_dump_json(exclude_none=True) + "\n" for one in asked[:12]))
    for name, more in (("alone", []), ("ray", ["--ray", "local", "--workers", "2"])):
        assert main(["batch", str(jobs), "--out", str(tmp_path / name), "--json", *more]) == 0
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [one["event"] for one in events] == ["done"] * 12 + ["end"]
        assert all(("machine" in one) == (name == "ray") for one in events[:-1])
    assert tree(tmp_path / "ray") == tree(tmp_path / "alone")


def test_a_cluster_that_is_not_there_is_told(asked: list[RenderRequest], tmp_path: Path) -> None:
    start(tmp_path / "out", Engine(), asked[:2])
    with pytest.raises(NoCluster, match="cannot join the cluster at '127.0.0.1:9': .*refused"):
        driver.work(tmp_path / "out", Place("127.0.0.1:9"), lambda _: None, lambda _: None)
