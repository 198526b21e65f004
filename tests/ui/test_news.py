"""Those who watch a job are told when there is something new, and ask nobody meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path
from threading import Thread

import pytest

from composer.request import RenderRequest
from pipelines.jobs.states import State
from tests.ui.waiting import finished
from ui import news
from ui.history import Asked, History
from ui.live import Live, Watcher
from ui.news import BOARD, News


def test_a_watcher_looks_when_it_is_told_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "_LONGEST", 3600.0)
    monkeypatch.setattr(news, "_PAUSE", 0.0)
    board, looks = News(), iter(range(100))

    async def watch() -> list[int]:
        seen: list[int] = []
        async for number in board.moments("a", lambda: next(looks)):
            seen.append(number)
            if len(seen) == 3:
                return seen
            board.tell("b")  # another job
            Thread(target=board.tell, args=("a" if number == 0 else None,)).start()
        return seen

    assert finished(asyncio.wait_for(watch(), 60)) == [0, 1, 2]
    assert next(looks) == 3


def test_who_leaves_is_forgotten() -> None:
    board = News()

    async def watch() -> None:
        moments = board.moments("a", lambda: 1)
        await anext(moments)
        assert list(board._listeners) == ["a"]
        await moments.aclose()

    finished(watch())
    assert not board._listeners
    board.tell("a")
    board.tell()


def test_steps_and_states_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str | None] = []
    monkeypatch.setattr(type(BOARD), "tell", lambda self, job=None: told.append(job))
    history = History(tmp_path)
    job = history.add(Asked((RenderRequest(prompt="a"),))).id
    assert told.pop() is None
    told.clear()
    history.set_state(job, State.RUNNING)
    assert told == [None]
    told.clear()
    watcher = Watcher(Live(job, 1))
    watcher.go(1)
    watcher.finished(1)
    assert told == [job, job]
    history.close()
