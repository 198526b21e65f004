"""`eval judge` and `eval study` as typed: the price comes first, answers are kept, votes become ratings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app import main
from eval.commands import RunFlags, run
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


def second_is_better(body: dict[str, Any]) -> tuple[int, str]:
    """Judge as one does who looks at the order alone."""
    text = body["messages"][0]["content"][0]["text"]
    mark = next(line for line in text.splitlines() if line.startswith("Scores ["))
    scores = [f"Image {k}: Composition Quality: {6 + k}/10, Image Quality: 5/10" for k in (1, 2)]
    return 200, "\n".join((mark, *scores))


@pytest.mark.thorough
def test_the_price_is_told_before_anything_is_asked(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("typer.confirm", lambda text, err: told.append(text))  # nothing: no
    with serving(second_is_better) as server:
        typed = ["eval", "judge", str(folder), "--judge-url", server.url, "--judge-model", "a-model"]
        assert main(typed) == 1 and server.requests == []
        assert len(told) == 1 and told[0].startswith("6 pairs, 12 requests not answered yet, about ")
        assert "if answers cannot be read: 36 requests" in told[0] and "sent up to 5 times" in told[0]
        assert "180 in all; after 6 unreadable answers in a row it stops" in told[0]
        assert main([*typed, "--yes"]) == 0 and len(server.requests) == 12 and len(told) == 1
        assert main(typed) == 0 and len(server.requests) == 12 and len(told) == 1  # nothing to pay, nothing to ask
    out = capsys.readouterr()
    assert "6 pairs, 0 requests not answered yet" in out.err
    assert "naive against merge | composition | 7.50 : 7.50" in out.out
    assert main(["eval", "report", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert "A judge&#x27;s view: a-model" in page and "Points more for being shown first: composition -1.00" in page
    assert "the wording is Medley&#x27;s own" in page


def test_a_few_unreadable_answers_in_a_row_end_it_and_one_is_shown(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "Both are \x1b[31mfine\ud800. " + 300 * "x"
    with serving(lambda body: (200, said)) as server:
        typed = ["eval", "judge", str(folder), "--judge-url", server.url, "--judge-model", "a-model", "--yes"]
        assert main([*typed, "--protocol", "cmlora"]) == 2
        assert len(server.requests) == 6
    told = capsys.readouterr().err
    assert "6 answers in a row cannot be read by protocol cmlora (the answer has no line" in told
    assert "\x1b" not in told and "fine" in told and 300 * "x" not in told
    assert len(list((folder / "judge" / "unreadable").iterdir())) == 6


def test_what_cannot_be_judged_is_told_before_pictures_are_looked_at(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["eval", "judge", str(folder), "--judge-model", "a-model", "--yes", "--judge-url"]
    url = "http://127.0.0.1:9/v1"
    for more, message in (
        (["localhost:8000"], "is no address of a server"),
        (["http://[::1/v1"], "is no address of a server"),
        ([url, "--protocol", "gpt4"], "did you mean 'gpt4v'"),
        ([url, "--methods", "murge"], "holds no pictures of 'murge'"),
        ([url, "--methods", "merge, merge"], "nothing to hold against 'merge'"),
        ([url, "--against", "murge"], "holds no pictures of 'murge'"),
    ):
        assert main([*typed, *more]) == 2
        told = capsys.readouterr().err
        assert message in told and "Traceback" not in told
    assert main(["eval", "judge", str(tmp_path), "--judge-url", url, "--judge-model", "a-model"]) == 2
    assert "holds no run.json" in capsys.readouterr().err


def test_damaged_verdicts_and_keys_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = folder / "judge" / "older.json"
    damaged.parent.mkdir(exist_ok=True)
    for content in ('{"protocol": "gpt4v"', '{"protocol": "gpt4v", "model": "m"}', "[" * 200_000):
        damaged.write_text(content)
        assert main(["eval", "report", str(folder)]) == 2
        told = capsys.readouterr().err
        assert "older.json" in told and "Traceback" not in told
    damaged.unlink()
    assert main(["eval", "study", str(folder)]) == 0
    key = folder / "study" / "key.json"
    whole = key.read_text()
    key.write_text(whole[:100])
    (folder / "votes.csv").write_text("pair,choice,voter\n")
    assert main(["eval", "study", str(folder), str(folder / "votes.csv")]) == 2
    assert "key.json: not JSON" in capsys.readouterr().err
    key.write_text(whole)
    for content in (b"\xff\xfe", b'pair,choice,voter\na,"' + 200_000 * b"x"):
        (folder / "votes.csv").write_bytes(content)
        assert main(["eval", "study", str(folder), str(folder / "votes.csv")]) == 2
        told = capsys.readouterr().err
        assert "votes.csv" in told and len(told) < 400 and "Traceback" not in told


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
