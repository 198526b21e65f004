"""Processes killed without warning, at every kind of moment: the folder ends as if nothing had happened.

A child forked from here works on the batch and kills itself at its n-th act that touches the disk (or after a while),
as `kill -9` does: nothing is cleaned up.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from composer.request import RenderRequest
from pipelines.engine import Engine
from pipelines.jobs import worker
from pipelines.jobs.grids import Content
from pipelines.jobs.ledger import Ledger
from pipelines.jobs.states import State
from tests.pipelines.jobs.folders import begun, child, requests, start, tree

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

_WATCHED = ("open", "os.rename", "os.chmod", "os.remove", "sqlite3.connect", "tempfile.mkstemp")
_JOBS = 40


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_at_act(number: int, folder: Path, engine: Engine) -> Callable[[], None]:
    def act() -> None:
        acts = iter(range(1, 1 << 30))

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if event in _WATCHED and str(folder) in str(arguments[0]) and next(acts) == number:
                die()

        sys.addaudithook(hook)
        worker.work(folder, engine, lambda _: None)

    return act


def dies_after(seconds: float, folder: Path, engine: Engine) -> Callable[[], None]:
    def act() -> None:
        threading.Timer(seconds, die).start()
        worker.work(folder, engine, lambda _: None)

    return act


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, engine: Engine, small_folder: Path) -> Iterator[Path]:
    """A batch that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    start(folder, engine, requests(str(small_folder), _JOBS))
    worker.work(folder, engine, lambda _: None)
    yield folder


def check_kill(folder: Path, engine: Engine, small: Path, whole: Path, act: Callable[[], None]) -> bool:
    """Kill one process at work on a fresh folder, let another go on, and compare; return whether it was killed."""
    start(folder, engine, requests(str(small), _JOBS))
    ended = child(act)
    worker.work(folder, engine, lambda _: None)
    assert tree(folder) == tree(whole)
    return os.WIFSIGNALED(ended)


def _acts(count: int) -> list[int]:
    rng = Random("kills")
    return sorted(rng.sample(range(3, 4 * _JOBS), count))


@pytest.mark.sampled(1)
@pytest.mark.parametrize("act", _acts(6))
def test_a_kill_loses_nothing(act: int, tmp_path: Path, engine: Engine, small_folder: Path, whole: Path) -> None:
    assert check_kill(tmp_path, engine, small_folder, whole, dies_at_act(act, tmp_path, engine))


@pytest.mark.slow
@pytest.mark.parametrize("act", _acts(50))
def test_many_kills_lose_nothing(act: int, tmp_path: Path, engine: Engine, small_folder: Path, whole: Path) -> None:
    assert check_kill(tmp_path, engine, small_folder, whole, dies_at_act(act, tmp_path, engine))


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [Random(f"after {n}").uniform(0.05, 2.0) for n in range(20)])
def test_kills_by_the_clock_lose_nothing(
    seconds: float, tmp_path: Path, engine: Engine, small_folder: Path, whole: Path
) -> None:
    check_kill(tmp_path, engine, small_folder, whole, dies_after(seconds, tmp_path, engine))


def with_grid(folder: Path, engine: Engine, small: Path) -> None:
    start(folder, engine, requests(str(small), 4))
    ledger = Ledger(folder)
    cells = [([place], one.digest) for place, one in enumerate(ledger.entries())]
    ledger.add_grid(Content(title="four", labels=[list("abcd")], cells=cells).model_dump_json())
    ledger.close()


def test_a_kill_while_a_sheet_is_written_leaves_nothing_behind(
    tmp_path: Path, engine: Engine, small_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_grid(tmp_path / "whole", engine, small_folder)
    worker.work(tmp_path / "whole", engine, lambda _: None)
    with_grid(tmp_path / "killed", engine, small_folder)
    replace = os.replace
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda a, b: die() if Path(b).name.startswith("grid") else replace(a, b))
        assert os.WIFSIGNALED(child(lambda: worker.work(tmp_path / "killed", engine, lambda _: None)))
    assert len(list((tmp_path / "killed").glob(".grid-*.part"))) == 1
    others = [begun(lambda: worker.work(tmp_path / "killed", engine, lambda _: None)) for _ in range(2)]
    assert [os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]) for one in others] == [0, 0]
    assert (tmp_path / "killed" / "grid-0001.png").is_file()
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")


def test_two_processes_share_the_work(tmp_path: Path, engine: Engine, small_folder: Path, whole: Path) -> None:
    start(tmp_path, engine, requests(str(small_folder), _JOBS))
    shares: list[int] = []
    other = os.fork()
    if other == 0:
        done: list[worker.Event] = []
        worker.work(tmp_path, engine, done.append)
        os._exit(min(len(done), 100))
    mine: list[worker.Event] = []
    worker.work(tmp_path, engine, mine.append)
    shares = [len(mine), os.waitstatus_to_exitcode(os.waitpid(other, 0)[1])]
    assert sum(shares) == _JOBS and min(shares) > 0
    assert tree(tmp_path) == tree(whole)


@pytest.mark.slow
@pytest.mark.parametrize("act", _acts(10))
def test_a_kill_beside_a_living_process_loses_nothing(
    act: int, tmp_path: Path, engine: Engine, small_folder: Path, whole: Path
) -> None:
    """Two work on one folder, and one of them is killed; the other ends the work alone."""
    start(tmp_path, engine, requests(str(small_folder), _JOBS))
    other = os.fork()
    if other == 0:
        dies_at_act(act // 2, tmp_path, engine)()  # it does about half of the acts
        os._exit(0)
    worker.work(tmp_path, engine, lambda _: None)
    os.waitpid(other, 0)
    assert tree(tmp_path) == tree(whole)


class Poisoned(Engine):
    """An engine that one prompt kills, as a fault in a driver does."""

    def render_many(self, requests, on_step=None, cancel=None):  # noqa: ANN001, ANN201
        if any(isinstance(one, RenderRequest) and one.prompt == "poison" for one in requests):
            die()
        return super().render_many(requests, on_step, cancel)


def test_a_job_that_kills_its_process_is_put_aside(tmp_path: Path, engine: Engine, small_folder: Path) -> None:
    poisoned = Poisoned(engine.source, load=lambda spec: engine.model(str(spec.path)))
    asked = requests(str(small_folder), _JOBS)
    asked[11] = asked[11].model_copy(update={"prompt": "poison"})
    start(tmp_path, poisoned, asked)
    deaths = 0
    while os.WIFSIGNALED(child(lambda: worker.work(tmp_path, poisoned, lambda _: None))):
        deaths += 1
        assert deaths <= 3
    ledger = Ledger(tmp_path)
    ended = {one.state for one in ledger.entries() if one.request.prompt != "poison"}
    (poison,) = (one for one in ledger.entries() if one.request.prompt == "poison")
    ledger.close()
    assert deaths == 3 and ended == {State.DONE}
    assert poison.state is State.QUARANTINED and poison.error == "the process died 3 times"
