"""Ledgers that are old, emptied, damaged or a stranger's: told, left out, made good where the jobs are known."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from pipelines import images
from pipelines.cli import main
from pipelines.engine import Engine
from pipelines.jobs import audit, worker
from pipelines.jobs.base import FILE
from pipelines.jobs.errors import BadLedger
from pipelines.jobs.ledger import Ledger
from pipelines.jobs.states import State
from tests.pipelines.jobs.folders import requests, start, tree

_OLD = Path(__file__).with_name("ledger_v1")  # as the first version left it: four pictures, two grids


def edited(folder: Path, *statements: str) -> None:
    db = sqlite3.connect(folder / FILE)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return shutil.copytree(_OLD, tmp_path / "old")


@pytest.fixture
def done(tmp_path: Path, engine: Engine, small_folder: Path) -> Path:
    """Six pictures by a file of jobs, `jobs.jsonl` beside the folder."""
    rows = [{"prompt": "x", "seed": seed, "model": str(small_folder), "steps": 1, "guidance": 2} for seed in range(6)]
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert main(["batch", str(tmp_path / "jobs.jsonl"), "--out", str(tmp_path / "out")]) == 0
    return tmp_path / "out"


def again(folder: Path) -> list[str]:
    return ["batch", str(folder.parent / "jobs.jsonl"), "--out", str(folder)]


def test_a_ledger_of_the_first_version_is_read(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger(old)
    entries = ledger.entries()
    assert audit.verify(ledger, lambda _: None) == []
    assert (ledger.counts()[State.DONE], ledger.suffix(), ledger.salt()) == (4, "png", None)
    ledger.close()
    assert [one.request.seed for one in entries] == [1, 2, 1, 2]
    assert entries[2].request.parameters == {"interval": 1, "legacy_offset": False}
    assert entries[3].request.adapters[1].text_encoder_weight == 0.25
    assert main(["batch", "resume", str(old)]) == 0
    assert "4 pictures in" in capsys.readouterr().out
    assert sorted(path.name for path in old.glob("grid-*")) == ["grid-0001.png", "grid-0002.png"]


def test_what_the_first_version_left_waiting_is_done(old: Path) -> None:
    edited(
        old,
        "UPDATE jobs SET state = 'waiting', sha256 = NULL, pixels_sha256 = NULL, seconds = NULL WHERE number > 2",
        "UPDATE jobs SET request = replace(request, 'meadow', '{red|blue} meadow') WHERE number = 3",
    )
    for path in old.glob("00000[34]*.png"):
        path.unlink()
    assert main(["batch", "resume", str(old)]) == 0
    ledger = Ledger(old)
    assert audit.verify(ledger, lambda _: None) == []
    ledger.close()
    (picture,) = old.glob("000003*.png")
    assert "{red|blue} meadow" in images.read_record(picture).prompt  # as that version would have made it


def test_the_jobs_of_the_first_version_are_the_same_jobs(old: Path, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs.yaml"
    jobs.write_text(
        "defaults: {model: tiny, num_inference_steps: 2, prompt: zorp in a meadow}\njobs:\n"
        '- {loras: ["zorp:0.8"], seed: 1}\n'
        '- {loras: ["zorp", "trident:0.5:0.25"], method: switch, set: [interval=1], seed: 2, guidance: 3}\n'
        "axes: {x: {seed: [1, 2]}}\n"
    )
    before = {path.name for path in old.glob("0*.png")}
    assert main(["batch", str(jobs), "--out", str(old)]) == 0
    assert {path.name for path in old.glob("0*.png")} == before


@pytest.mark.parametrize("act", ["status", "verify", "resume"])
def test_an_emptied_ledger_beside_pictures_is_told(act: str, done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (done / FILE).write_bytes(b"")
    assert main(["batch", act, str(done)]) == 2
    assert f"{FILE} is empty: it knows none of the 6 pictures beside it" in capsys.readouterr().err
    assert (done / FILE).read_bytes() == b""


def test_the_command_that_began_an_emptied_batch_begins_it_anew(done: Path) -> None:
    before = {name: digest for name, digest in tree(done).items() if name != FILE}
    (done / FILE).write_bytes(b"")
    edited(done, "PRAGMA journal_mode = WAL")  # as reading it once did
    assert main(again(done)) == 0
    assert {name: digest for name, digest in tree(done).items() if name != FILE} == before


def test_a_ledger_that_knows_fewer_jobs_than_there_are_pictures_is_told(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = sorted(path.name for path in done.glob("*.png"))
    edited(done, "DELETE FROM jobs WHERE number > 4")
    assert main(["batch", "status", str(done)]) == 1
    assert f"not in the ledger: {', '.join(names[4:])}" in capsys.readouterr().out
    assert main(["batch", "status", str(done), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["unknown"] == names[4:]
    assert main(["batch", "resume", str(done)]) == 0
    assert f"not in the ledger of {done}, and left alone: {names[4]}, {names[5]}" in capsys.readouterr().err


_DAMAGES = {
    "read: 1 of its fields are wrong": "UPDATE jobs SET request = '{\"mood\": 3}' WHERE number = 2",
    "its request cannot be read": "UPDATE jobs SET request = 'x' WHERE number = 2",
    "half of a character": "UPDATE jobs SET request = CAST(x'FF' AS TEXT) WHERE number = 2",
    "'../../out.png' is no name of a picture": "UPDATE jobs SET file = '../../out.png' WHERE number = 2",
    "'/tmp/x.png' is no name of a picture": "UPDATE jobs SET file = '/tmp/x.png' WHERE number = 2",
}


@pytest.mark.parametrize("why", _DAMAGES)
def test_a_damaged_row_is_told_and_left_out(why: str, done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edited(done, _DAMAGES[why])
    assert main(["batch", "status", str(done)]) == 1
    out = capsys.readouterr().out
    assert "the row of job 2 is damaged: " in out and why in out
    assert main(["batch", "verify", str(done)]) == 1
    assert why in capsys.readouterr().out
    ledger = Ledger(done)
    assert [one.number for one in ledger.entries()] == [1, 3, 4, 5, 6]
    assert [one.number for one in ledger.damaged()] == [2]
    ledger.close()


@pytest.mark.parametrize("why", _DAMAGES)
def test_a_damaged_row_that_waits_fails_and_the_others_are_done(
    why: str, tmp_path: Path, engine: Engine, small_folder: Path
) -> None:
    folder = tmp_path / "a" / "b"
    start(folder, engine, requests(str(small_folder), 4))
    edited(folder, _DAMAGES[why])
    worker.work(folder, engine, lambda _: None)
    ledger = Ledger(folder)
    counts, damaged = ledger.counts(), ledger.damaged()
    ledger.close()
    assert (counts[State.DONE], counts[State.FAILED], len(damaged)) == (3, 1, 1)
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("why", _DAMAGES)
def test_the_same_command_writes_a_damaged_row_anew(why: str, done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(done)
    edited(done, _DAMAGES[why])
    assert main(again(done)) == 0
    assert "made again, since the ledger's rows of them were damaged: 000002-merge-" in capsys.readouterr().err
    assert tree(done) == before
    assert main(["batch", "verify", str(done)]) == 0


@pytest.mark.parametrize("act", ["same", "resume"])
def test_pictures_that_are_gone_or_changed_are_made_again(
    act: str, done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(done)
    first, second, third, *_ = sorted(done.glob("*.png"))
    first.unlink()
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 1
    second.write_bytes(data)
    third.write_bytes(b"")
    capsys.readouterr()
    assert main(again(done) if act == "same" else ["batch", "resume", str(done)]) == 0
    told = f"{first.name} is missing, {second.name} was changed, {third.name} was changed"
    assert f"made again: {told}" in capsys.readouterr().err
    assert tree(done) == before
    assert main(["batch", "verify", str(done)]) == 0


def test_what_is_whole_is_left_alone(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times = {path.name: path.stat().st_mtime_ns for path in done.glob("*.png")}
    assert main(again(done)) == 0
    assert "made again" not in capsys.readouterr().err
    assert {path.name: path.stat().st_mtime_ns for path in done.glob("*.png")} == times


def test_a_damaged_grid_is_told_and_the_others_are_drawn(old: Path) -> None:
    edited(
        old,
        "UPDATE grids SET content = '{' WHERE number = 1",
        "INSERT INTO grids SELECT 3, '../out.png', replace(content, 'zorp', 'x') FROM grids WHERE number = 2",
    )
    assert main(["batch", "resume", str(old)]) == 0
    assert [path.name for path in old.glob("grid-*")] == ["grid-0002.png"]
    assert not (old.parent / "out.png").exists()
    ledger = Ledger(old)
    wrong = audit.verify(ledger, lambda _: None)
    ledger.close()
    said = "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
    assert wrong == [f"grid-0001.png: not JSON ({said})", "'../out.png' is no name of a sheet"]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DROP TABLE jobs", "not a ledger, or is damaged: no such table: jobs"),
        ("ALTER TABLE jobs DROP COLUMN pixels_sha256", "not a ledger, or is damaged: no such column"),
        ("PRAGMA user_version = 2", "of version 2; this Medley reads version 1"),
    ],
)
def test_another_form_of_ledger_is_a_typed_error(
    statement: str, message: str, old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited(old, statement)
    for act in ("status", "verify", "resume"):
        assert main(["batch", act, str(old)]) == 2
        assert message in capsys.readouterr().err


def test_another_program_s_database_is_left_as_it_is(tmp_path: Path) -> None:
    edited(tmp_path, "CREATE TABLE letters (text TEXT)")
    before = (tmp_path / FILE).read_bytes()
    for create in (False, True):
        with pytest.raises(BadLedger, match="is not a ledger: it holds letters"):
            Ledger(tmp_path, create=create)
    db = sqlite3.connect(tmp_path / FILE)
    assert db.execute("SELECT name FROM sqlite_schema").fetchall() == [("letters",)]
    assert len((tmp_path / FILE).read_bytes()) == len(before)


@pytest.mark.parametrize("act", ["status", "verify", "resume"])
def test_damaged_pages_are_a_typed_error(act: str, old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray((old / FILE).read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    (old / FILE).write_bytes(data)
    assert main(["batch", act, str(old)]) == 2
    assert "is not a ledger, or is damaged" in capsys.readouterr().err


def test_a_ledger_that_cannot_be_opened_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / f"{FILE}-wal").mkdir()
    with pytest.raises(OSError, match="cannot be"):
        Ledger(tmp_path, create=True)


@pytest.mark.parametrize("create", [True, False])
def test_a_ledger_that_is_no_file_of_its_folder_is_a_typed_error(create: bool, old: Path, tmp_path: Path) -> None:
    linked, folder = tmp_path / "linked", tmp_path / "folder"
    linked.mkdir()
    (linked / FILE).symlink_to(old / FILE)
    before = (old / FILE).read_bytes()
    with pytest.raises(BadLedger, match="leads out of its folder"):
        Ledger(linked, create=create)
    assert (old / FILE).read_bytes() == before
    (folder / FILE).mkdir(parents=True)
    with pytest.raises(BadLedger, match="a folder, not a regular file" if create else "it holds no"):
        Ledger(folder, create=create)
