"""What somebody else wrote, or half wrote: suites, maps, folders of results. Each is one typed line."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from app import main
from eval import base, measuring, outputs, report, running, tables
from eval.__main__ import main as measure
from eval.commands import RunFlags, run
from eval.errors import BadRun, NoResults
from eval.metrics import registry
from eval.metrics.batch import Batch, Tools
from eval.metrics.registry import Found
from eval.running import Overrides
from pipelines.engine import Engine

GOOD = "name: a\nmembers: {z: {lora: zorp, triggers: [zorp]}}\nsets: [{members: [z]}]\n"


@pytest.fixture(scope="module")
def done(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results: one set by two methods, costs and CLIPScore measured."""
    out = tmp_path_factory.mktemp("done") / "out"
    metrics = ("cost", "clipscore")
    flags = RunFlags(str(written), "naive,merge", out, 1, 1, None, Overrides(), "embedded", metrics, 0, 1, False)
    assert run(flags, as_json=False)
    return out


@pytest.fixture
def folder(done: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "copy"))


def refused(capsys: pytest.CaptureFixture[str], *typed: str) -> str:
    """Return what a command says that refuses in one line."""
    assert main(list(typed)) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith("error: ") and not any("Traceback" in line for line in told)
    return told[-1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds nothing, not keys with values"),
        ("- 1", "holds a list, not keys"),
        ("a: [", "not YAML"),
        ("a: &x [1]\nb: *x", "line 2 uses an alias"),
        ("!!python/object:os.system x", "not YAML"),
        (b"\xff\xfe\x00", "not text in UTF-8"),
        ("[" * 3000, "not YAML"),
        (GOOD.replace("triggers: [zorp]", 'triggers: ["\\ud800"]'), "not YAML"),
        ("settings: {width: 100000000}\n" + GOOD, "width: Input should be less than or equal to 8192"),
        (GOOD.replace("members: [z]", "members: [z, z]"), "each LoRA may be named once"),
        (GOOD.replace("lora: zorp", 'lora: "~nobody-of-this-name/x"'), "nobody-of-this-name"),
    ],
)
def test_a_suite_s_file_is_a_stranger_s(
    content: str | bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    typed = ["eval", "run", str(path), "--methods", "merge", "--out", str(tmp_path / "x"), "--metrics", "cost"]
    assert message in refused(capsys, *typed, "--dry-run")
    path.rename(tmp_path / "m.yaml")
    refused(capsys, "eval", "run", "composlora", "--map", str(tmp_path / "m.yaml"), *typed[3:])
    assert not (tmp_path / "x").exists()


def test_a_suite_that_is_a_pipe_is_not_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "s.yaml")
    typed = ["eval", "run", str(tmp_path / "s.yaml"), "--methods", "merge", "--out", str(tmp_path / "x"), "--dry-run"]
    assert "a pipe, not a regular file" in refused(capsys, *typed)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", ["run.json", "measured/cost.json", "measured/clipscore.json", "measured/codes.json"])
def test_damaged_results_are_told(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / name
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b'{"a": 1}', b"[1, 2]", b"[" * 100_000, b'{"x": "\\ud800"}'):
        path.write_bytes(content)
        assert path.name in refused(capsys, "eval", "report", str(folder))
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seeds": 10**9}, "seeds: Input should be less than or equal to 1000"),
        ({"references": 10**6}, "references: Input"),
        ({"methods": []}, "methods: Tuple should have at least 1 item"),
        ({"of_another_version": 1}, "of_another_version: Extra inputs are not permitted"),
        ({"clip": "nope"}, "unknown CLIP 'nope'"),
    ],
)
def test_a_wish_that_cannot_be_meant_is_told(
    changed: dict[str, object], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    shutil.rmtree(folder / "measured")
    assert message in refused(capsys, "eval", "report", str(folder))


@pytest.mark.thorough
def test_a_picture_that_is_not_there_or_leads_elsewhere_is_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, *_ = (folder / "pictures").glob("*.png")
    (tmp_path / "secret.png").write_bytes(one.read_bytes())
    one.unlink()
    assert one.name in refused(capsys, "eval", "report", str(folder))
    one.symlink_to(tmp_path / "secret.png")
    assert "leads out of its folder" in refused(capsys, "eval", "report", str(folder))


def test_a_report_goes_where_it_can(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is a folder" in refused(capsys, "eval", "report", str(folder), "--page", str(folder))
    assert "is a file, not a folder" in refused(
        capsys, "eval", "report", str(folder), "--docs", str(folder / "run.json")
    )
    assert "nothing to hold against" in refused(capsys, "eval", "study", str(folder), "--methods", "merge")


@pytest.mark.thorough
def test_one_set_is_reported_without_intervals(folder: Path) -> None:
    assert main(["eval", "report", str(folder), str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert page.count("<h2>Suite mine</h2>") == 1
    assert "All signs are counted; 2 sets can have no p below 0.5, uncorrected: too few to show anything." in page
    means = json.loads((folder / "figures" / "means.json").read_text())
    assert {(one["low"], one["high"]) for one in means if one["sets"] == 1} == {(None, None)}
    contests = json.loads((folder / "figures" / "contests.json").read_text())
    assert {one["p_least"] for one in contests if one["sets"] == 1} == {1.0}


@pytest.mark.thorough
def test_what_is_no_number_is_left_out_and_told(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    metric = registry.get("clipscore")

    def broken(batch: Batch) -> list[Found]:
        found = [one for one in metric.answer(batch) if one is not None]
        return [replace(one, values={**one.values, "clipscore": float("nan")}) for one in found]

    turned = {one.name: replace(one, answer=broken) if one.name == "clipscore" else one for one in registry.every()}
    monkeypatch.setattr(registry, "_all", lambda: turned)
    (folder / "measured" / "clipscore.json").unlink()
    for _ in range(2):  # the second time from what was kept
        assert main(["eval", "report", str(folder)]) == 0
        assert "clipscore is no finite number for 4 pictures" in capsys.readouterr().err
        page = (folder / "report.html").read_text()
        assert "clipscore gave no finite number for 4 pictures: left out" in page
        assert "<th>CLIPScore (embedded CLIP)</th>" not in page and "CLIPScore, prompt (embedded CLIP)" in page
        assert "nan" not in (folder / "figures" / "means.json").read_text().lower()


def test_a_ledger_that_names_a_picture_elsewhere_is_refused(folder: Path) -> None:
    wanted, engine = running.known(folder), Engine()
    entries = running.placed(wanted, engine)
    moved = {key: replace(entry, file="../../secret.png") for key, entry in entries.items()}
    with pytest.raises(BadRun, match="names a picture outside itself"):
        measuring.measure(wanted, moved, [registry.get("cost")], Tools(engine=engine), lambda _: None)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"pictures": 3', b"[" * 100_000])
def test_damaged_summaries_are_told(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base.json").write_bytes(content)
    with pytest.raises(NoResults, match=r"base\.json"):
        outputs.read_summary(base.Summary, tmp_path / "base.json")
    monkeypatch.setattr("sys.argv", ["eval", "report", "--out", str(tmp_path), "--docs", str(tmp_path / "docs")])
    assert measure() == 2 and "base.json" in capsys.readouterr().err


def test_a_document_that_is_no_text_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "embedded.md").write_bytes(b"\xff")
    outputs.write_summary(base.Summary(3, "ddim", 0.9, 0.95, None, 0.5, {"colour": 0.9}), tmp_path / "base.json")
    with pytest.raises(NoResults, match=r"embedded\.md: not text in UTF-8"):
        report.run(tmp_path, tmp_path)
    assert (tmp_path / "embedded.md").read_bytes() == b"\xff"


def test_what_was_not_asked_is_a_dash() -> None:
    rows = [base.Row("a", 0, 1, {"centre.colour.red": True, "place.meadow": False}, "a.png")]
    found = base.summarise(rows, "settings")
    assert (found.one_creature, found.two_creatures) == (0.5, None)
    assert "| scenes with two creatures | – |" in tables.of_base(found)
