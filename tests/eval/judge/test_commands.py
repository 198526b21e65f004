"""`eval judge` and `eval study` as typed: the price comes first, answers are kept, votes become ratings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app import main
from eval.commands import RunFlags, run
from eval.metrics import registry
from eval.running import Overrides
from tests.eval.judge.server import serving
from tests.eval.offline import outside

pytest.importorskip("openai")


@pytest.fixture(scope="module")
def folder(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six cases by two methods."""
    out = tmp_path_factory.mktemp("judged")
    flags = RunFlags(str(written), "naive,merge", out, None, 2, None, Overrides(), None, ("cost",), 0, 1, False)
    assert run(flags, as_json=False)
    return out


@pytest.fixture(autouse=True)
def one_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else is found in the pictures is not the matter here."""
    monkeypatch.setattr("eval.measuring.chosen", lambda *_: [registry.get("cost")])


def second_is_better(body: dict[str, Any]) -> tuple[int, str]:
    """Judge as one does who looks at the order alone."""
    text = body["messages"][0]["content"][0]["text"]
    mark = next(line for line in text.splitlines() if line.startswith("Scores ["))
    scores = [f"Image {k}: Composition Quality: {6 + k}/10, Image Quality: 5/10" for k in (1, 2)]
    return 200, "\n".join((mark, *scores))


def test_the_price_is_told_before_anything_is_asked(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("typer.confirm", lambda text, err: told.append(text))  # nothing: no
    with serving(second_is_better) as server:
        typed = ["eval", "judge", str(folder), "--judge-url", server.url, "--judge-model", "a-model"]
        assert main(typed) == 1 and server.requests == []
        assert len(told) == 1 and told[0].startswith("6 pairs, 12 requests not answered yet, about ")
        assert main([*typed, "--yes"]) == 0 and len(server.requests) == 12 and len(told) == 1
        assert main(typed) == 0 and len(server.requests) == 12 and len(told) == 1  # nothing to pay, nothing to ask
    out = capsys.readouterr()
    assert "6 pairs, 0 requests not answered yet" in out.err
    assert "naive against merge | composition | 7.50 : 7.50" in out.out
    assert main(["eval", "report", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert "A judge&#x27;s view" in page and "Points more for being shown first: composition -1.00" in page


def test_unreadable_answers_make_the_command_fail(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda body: (200, "Both are fine.")) as server:
        typed = ["eval", "judge", str(folder), "--judge-url", server.url, "--judge-model", "a-model", "--yes"]
        assert main([*typed, "--protocol", "cmlora"]) == 1
    assert "0 pairs in both orders, 6 dropped" in capsys.readouterr().out


def test_a_study_goes_out_and_its_votes_come_in(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "study", str(folder)]) == 0
    key = json.loads((folder / "study" / "key.json").read_text())
    assert len(key) == 6 and {one["left"] for one in key} | {one["right"] for one in key} == {"naive", "merge"}
    page = (folder / "study" / "study.html").read_text()
    assert outside(page) == [] and "naive" not in page
    lines = [f"{one['pair']},{'left' if one['left'] == 'merge' else 'right'},me" for one in key]
    votes = folder / "votes.csv"
    votes.write_text("\n".join(["pair,choice,voter", *lines]))
    capsys.readouterr()
    assert main(["eval", "study", str(folder), str(votes), "--json"]) == 0
    ratings = json.loads(capsys.readouterr().out)["ratings"]
    assert [one["method"] for one in ratings] == ["merge", "naive"] and ratings[0]["votes"] == 6
    assert ratings[0]["low"] <= ratings[0]["rating"] <= ratings[0]["high"]
