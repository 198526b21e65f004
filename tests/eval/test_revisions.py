"""Pictures by several codes in one folder: told on console and page, and made anew where that is asked for."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from app import main
from composer.errors import UnknownChoice
from eval import commands, revisions, running
from eval.commands import BenchmarkFlags, RunFlags, benchmark, run
from eval.metrics import registry
from eval.running import Overrides
from pipelines.jobs import audit
from pipelines.jobs.entries import Entry
from pipelines.jobs.ledger import Ledger
from pipelines.revision import revision

OLD = "0123456789ab"


def entries(folder: Path) -> dict[tuple[str, int, int], Entry]:
    ledger = Ledger(folder / running.PICTURES)
    found = {(one.request.method, len(one.request.adapters), one.request.seed): one for one in ledger.entries()}
    assert audit.verify(ledger, lambda _: None) == []
    ledger.close()
    return found


@pytest.fixture
def asked(flags: RunFlags) -> RunFlags:
    """What is found in the pictures is not the matter here."""
    return replace(flags, metrics=("cost",))


def by_code(folder: Path) -> dict[str, set[str]]:
    with (folder / "figures" / "pictures.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {code: {row["method"] for row in rows if row["code"] == code} for code in {row["code"] for row in rows}}


@pytest.fixture(scope="module")
def made(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of two columns, made by other code."""
    out = tmp_path_factory.mktemp("old") / "out"
    flags = RunFlags(str(written), "naive,merge", out, None, 2, None, Overrides(), None, ("cost",), 0, 1, False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.batch.revision", lambda: OLD)
        assert run(flags, as_json=False)
    return out


@pytest.fixture
def old(asked: RunFlags, made: Path) -> RunFlags:
    """Return what asked for them, with a folder of its own that holds them."""
    shutil.copytree(made, asked.out)
    return asked


@pytest.mark.thorough
def test_pictures_of_one_code_need_no_word(asked: RunFlags, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(asked, as_json=False)
    assert "code" not in capsys.readouterr().err
    page = (asked.out / running.PAGE).read_text()
    assert "Notice" not in page and f"<td>{revision()}</td><td>naive, merge</td><td>12</td>" in page


@pytest.mark.thorough
def test_a_method_added_by_other_code_is_told(old: RunFlags, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(old, as_json=False)
    assert f"all pictures were made by code {OLD}; this is {revision()}; --renew" in capsys.readouterr().err
    assert run(replace(old, methods="switch"), as_json=False)
    told = capsys.readouterr().err
    for said in ("of 2 codes", f"{OLD} made those of naive, merge", f"{revision()} made those of switch"):
        assert said in told and said in (old.out / running.PAGE).read_text()
    assert by_code(old.out) == {OLD: {"naive", "merge"}, revision(): {"switch"}}


def test_what_other_code_made_is_made_anew(old: RunFlags, capsys: pytest.CaptureFixture[str]) -> None:
    before = entries(old.out)
    times = {one.file: (old.out / running.PICTURES / one.file).stat().st_mtime_ns for one in before.values()}
    assert run(replace(old, renew=("merge",)), as_json=False)
    told = capsys.readouterr().err
    assert "6 pictures by other code are rendered anew" in told and f"{OLD} made those of naive;" in told
    after = entries(old.out)
    assert by_code(old.out) == {OLD: {"naive"}, revision(): {"merge"}}
    again = {file for file, when in times.items() if (old.out / running.PICTURES / file).stat().st_mtime_ns != when}
    assert again == {one.file for one in before.values() if one.request.adapters}
    assert {key: one.pixels_sha256 for key, one in after.items()} == {
        key: one.pixels_sha256 for key, one in before.items()
    }
    assert run(replace(old, renew=(revisions.ALL,)), as_json=False)
    told = capsys.readouterr().err
    assert "6 pictures by other code are rendered anew" in told and "codes" not in told
    assert by_code(old.out) == {revision(): {"naive", "merge"}}


def test_a_method_that_is_not_there_is_not_renewed(old: RunFlags) -> None:
    before = entries(old.out)
    with pytest.raises(UnknownChoice, match="did you mean 'merge'"):
        run(replace(old, renew=("merg",)), as_json=False)
    assert entries(old.out) == before
    asked = BenchmarkFlags("merge", old.out, old.out / "docs", 1, 1, 0, 1, False, renew=("murge",), suites=("duet",))
    with pytest.raises(UnknownChoice, match="did you mean 'merge'"):
        benchmark(asked)
    with pytest.raises(UnknownChoice, match="did you mean 'duet'"):
        benchmark(replace(asked, suites=("duett",)))


def test_some_suites_of_the_benchmark_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(commands, "rendered", lambda asked, _: ran.append(asked.suite))
    asked = BenchmarkFlags("merge", tmp_path, tmp_path, 1, 1, 0, 1, False)
    assert not benchmark(replace(asked, suites=("duet",))) and ran == ["duet"]
    assert not benchmark(asked) and ran == ["duet", "compos"]  # the first that was stopped ends it


@pytest.mark.thorough
def test_a_report_renews_the_document(
    old: RunFlags, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: twelve pictures, all by other code."""
    monkeypatch.setattr("eval.measuring.chosen", lambda *_: [registry.get("cost")])
    assert main(["eval", "report", str(old.out), "--docs", str(tmp_path / "docs")]) == 0
    assert f"made by code {OLD}" in capsys.readouterr().err
    text = (tmp_path / "docs" / "benchmark.md").read_text()
    assert f"| mine | {OLD} | naive, merge | 12 |" in text
    notices = [line for line in text.splitlines() if "**Notice" in line]
    assert len(notices) == 1 and "nothing is measured by a CLIP" in notices[0]  # and none of the code
    assert json.loads((old.out / "measured" / "codes.json").read_text()).popitem()[1] == OLD
