"""What a bar says: how many are done, how fast, and how long the rest takes."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from pipelines import bars


def test_where_nobody_looks_lines_tell_rate_and_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One begins at 0 s; ten are done at 20 s, which is too early for a line, and thirty at 40 s."""
    clock = iter([0.0, 0.0, 20.0, 40.0])
    monkeypatch.setattr(bars, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with bars.bar("pictures", 60) as advance:
        advance(10)
        advance(20)
    assert capsys.readouterr().err == "pictures 30/60, 45 a minute, 40 s left\n"


def test_a_terminal_is_shown_a_bar_with_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(bars, "Console", lambda stderr: Console(file=written, force_terminal=True, width=120))
    with bars.bar("pictures", 3) as advance:
        for _ in range(3):
            advance(1)
    assert "3/3" in written.getvalue() and "a minute" in written.getvalue()
