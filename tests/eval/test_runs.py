"""Runs through the ledger on a minute model: what is rendered, what is not rendered again, what is written."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app import main
from eval import columns, commands, running, suites
from eval.commands import BenchmarkFlags, RunFlags, benchmark, run
from eval.errors import BadRun, BadSuite
from eval.running import Overrides
from pipelines.engine import Engine
from pipelines.errors import BadModel
from pipelines.images import Rendering
from pipelines.jobs.ledger import Ledger
from tests.eval.offline import outside


def pixels(folder: Path) -> dict[tuple[str, int, int], str | None]:
    """Return the digests of a folder's pictures by what was asked."""
    ledger = Ledger(folder / running.PICTURES)
    entries = ledger.entries()
    ledger.close()
    return {(one.request.method, len(one.request.adapters), one.request.seed): one.pixels_sha256 for one in entries}


@pytest.mark.thorough
def test_a_method_added_later_renders_nothing_else(flags: RunFlags) -> None:
    assert run(flags, as_json=False)
    first = {file: file.stat().st_mtime_ns for file in (flags.out / running.PICTURES).glob("*.png")}
    assert len(first) == 12
    assert run(replace(flags, methods="switch:interval=1"), as_json=False)
    later = {file: file.stat().st_mtime_ns for file in (flags.out / running.PICTURES).glob("*.png")}
    assert len(later) == 18 and all(later[file] == when for file, when in first.items())
    assert running.read(flags.out).methods == ("naive", "merge", "switch:interval=1")
    page = (flags.out / "report.html").read_text()
    assert page.count("data:image/png") >= 9 and "http-equiv" in page
    assert outside(page) == [] and "<script" not in page
    with (flags.out / "figures" / "pictures.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 18 and {row["method"] for row in rows} == {"naive", "merge", "switch:interval=1"}
    assert all(row["clipscore"] and row["passes"] == "2.0" for row in rows)
    watched = [row for row in rows if row["gflop"]]
    assert sorted((row["method"], row["size"]) for row in watched) == [
        (method, size) for method in ("merge", "naive", "switch:interval=1") for size in ("2", "3")
    ]
    pyarrow = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.read_table(flags.out / "figures" / "pictures.parquet").to_pylist()
    assert [(row["method"], row["set"], row["code"]) for row in table] == [
        (row["method"], row["set"], row["code"]) for row in rows
    ]
    contests = json.loads((flags.out / "figures" / "contests.json").read_text())
    assert {one["other"] for one in contests} == {"merge"}
    assert all(one["p"] <= one["p_corrected"] <= 1 for one in contests)


def test_neither_order_nor_company_changes_a_picture(flags: RunFlags, tmp_path: Path) -> None:
    asked = replace(flags, metrics=("cost",))
    assert run(asked, as_json=False)
    turned = str(Path(asked.suite).with_name("turned.yaml"))
    other = replace(asked, suite=turned, methods="switch,merge,naive", out=tmp_path / "other")
    assert run(other, as_json=False)
    ours, theirs = pixels(asked.out), pixels(other.out)
    assert len(ours) == 12 and all(theirs[key] == digest for key, digest in ours.items())


def test_a_run_that_was_stopped_goes_on(
    flags: RunFlags, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped between two goes; what was rendered stays, and in the end all is as if it had not been stopped."""
    asked = replace(flags, metrics=("cost",))
    assert run(replace(asked, out=tmp_path / "whole"), as_json=False)
    real, calls = Engine.render_many, iter(range(9))

    def stop(self: Engine, *given: Any) -> list[Rendering]:
        if next(calls):
            raise KeyboardInterrupt
        return real(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "render_many", stop)
        with pytest.raises(KeyboardInterrupt):  # by which the command line ends with 130
            run(asked, as_json=False)
    assert "goes on from here" in capsys.readouterr().err and not (flags.out / running.PAGE).exists()
    first = {file: file.stat().st_mtime_ns for file in (flags.out / running.PICTURES).glob("*.png")}
    assert len(first) == 6
    assert run(asked, as_json=False)
    assert pixels(flags.out) == pixels(tmp_path / "whole") and len(pixels(flags.out)) == 12
    assert all(file.stat().st_mtime_ns == when for file, when in first.items())


def test_more_sets_and_seeds_are_added_and_other_suites_refused(flags: RunFlags) -> None:
    flags = replace(flags, metrics=("cost",))
    assert run(replace(flags, sets=1, seeds=1, methods="merge"), as_json=False)
    few = pixels(flags.out)
    assert len(few) == 2
    assert run(replace(flags, methods="merge"), as_json=False)
    assert len(pixels(flags.out)) == 6 and pixels(flags.out).items() >= few.items()
    with pytest.raises(BadRun, match="was begun with suite"):
        run(replace(flags, suite="compos"), as_json=False)
    with pytest.raises(BadRun, match="was begun with overrides"):
        run(replace(flags, overrides=Overrides(num_inference_steps=9)), as_json=False)


def test_references_are_pictures_of_each_lora_alone(flags: RunFlags) -> None:
    asked = replace(flags, methods="merge", references=1, metrics=("clip_reference", "cost"))
    assert run(asked, as_json=False)
    assert len(list((flags.out / "references").glob("*.png"))) == 3
    rows = json.loads((flags.out / "figures" / "pictures.json").read_text())
    assert len(rows) == 6 and all(-100 <= row["clip_reference"] <= 100 for row in rows)


def test_mistakes_are_found_before_anything_is_written(flags: RunFlags, tmp_path: Path) -> None:
    with pytest.raises(BadSuite, match="needs to know where each LoRA belongs"):
        run(replace(flags, methods="regional"), as_json=False)
    with pytest.raises(BadModel):
        run(replace(flags, overrides=Overrides(model="no/such/model")), as_json=False)
    assert not flags.out.exists()


def test_a_dry_run_counts_and_writes_nothing(flags: RunFlags, capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["eval", "run", flags.suite, "--methods", "naive,composite", "--out", str(flags.out), "--dry-run", "--json"]
    typed += ["--metrics", "cost"]
    assert main(typed) == 0
    told = {one["method"]: one["unet_passes"] for one in json.loads(capsys.readouterr().out)["methods"]}
    assert told == {"naive": 3 * 2, "composite": (2 + 2 + 3) * 2}
    assert not flags.out.exists()


def test_columns_are_asked_the_same() -> None:
    case = suites.load("duet").cases(1)[0]
    labels = ("naive", "merge", "regional", "switch:interval=1")
    asked = {label: columns.parse(label).request(case) for label in labels}
    assert len({(one.prompt, one.seed, one.model, one.num_inference_steps) for one in asked.values()}) == 1
    assert [len(one.adapters) for one in asked.values()] == [0, 2, 2, 2]
    assert [use.region is not None for use in asked["regional"].adapters] == [True, True]
    assert all(use.region is None for use in asked["merge"].adapters)
    assert asked["switch:interval=1"].parameters == {"interval": 1}


def test_all_stands_for_what_a_suite_can_ask() -> None:
    compos, duet = suites.load("compos"), suites.load("duet")
    everywhere = {one.label for one in columns.parse_all("all", compos)}
    assert {one.label for one in columns.parse_all("all", duet)} - everywhere >= {"regional"}
    left = columns.parse_all("merge,regional", compos, leave_out=True)
    assert [one.label for one in left] == ["merge"]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["eval", "run", "compo", "--methods", "merge", "--out", "x"], "did you mean 'compos'"),
        (["eval", "run", "compos", "--methods", "murge", "--out", "x"], "did you mean 'merge'"),
        (["eval", "run", "compos", "--methods", "switch:5", "--out", "x"], "write NAME:KEY=VALUE"),
        (["eval", "run", "compos", "--methods", "switch:intervall=5", "--out", "x"], "did you mean 'interval'"),
        (["eval", "run", "compos", "--methods", "merge", "--metrics", "presense", "--out", "x"], "'presence'"),
        (["eval", "report", "x"], "holds no run.json"),
        (["eval", "list", "metric"], "did you mean 'metrics'"),
    ],
)
def test_what_is_typed_wrong_is_told(
    typed: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(typed) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_suites_and_metrics_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "list", "suites", "--json"]) == 0
    listed = {one["name"]: one["sets"] for one in json.loads(capsys.readouterr().out)["suites"]}
    assert listed == {"compos": 480, "duet": 120, "subject_style": 120, "composlora": 480}
    assert main(["eval", "list", "metrics", "--json"]) == 0
    measures = json.loads(capsys.readouterr().out)["metrics"]
    assert {one["better"] for one in measures} == {"higher", "lower"} and all(one["unit"] for one in measures)


@pytest.mark.thorough
def test_a_benchmark_keeps_the_words_around_its_figures(
    flags: RunFlags, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a suite of the minute model in place of the embedded ones."""
    monkeypatch.setattr(suites, "EMBEDDED", {"mine": lambda: suites.user.suite(Path(flags.suite))})
    asked = BenchmarkFlags("naive,merge,regional", tmp_path / "out", tmp_path / "docs", 4, 1, 0, 1, False)
    monkeypatch.setattr("eval.commands.of_suite", lambda suite, _: replace(flags, seeds=1))
    assert benchmark(asked)
    document = tmp_path / "docs" / "benchmark.md"
    text = document.read_text()
    assert "| naive |" in text and "benchmark/mine-cost.svg" in text and "### What is measured" in text
    assert {file.name for file in (tmp_path / "docs" / "benchmark").iterdir()} >= {"mine.png", "mine-cost.svg"}
    document.write_text(f"{text.replace('| naive |', '| old |')}\nA finding.\n")
    assert benchmark(asked)
    assert document.read_text() == f"{text}\nA finding.\n"


def test_the_benchmark_takes_as_many_sets_of_every_suite() -> None:
    asked = BenchmarkFlags("merge,regional", Path("out"), Path("docs"), 120, 1, 0, 1, False)
    found = {name: commands.of_suite(make(), asked) for name, make in suites.EMBEDDED.items()}
    assert {name: one.sets for name, one in found.items()} == {"compos": 30, "duet": 120, "subject_style": 120}
    assert {name: one.methods for name, one in found.items()} == {
        "compos": "merge",
        "duet": "merge,regional",
        "subject_style": "merge",
    }
