"""The history on the disk: of an earlier version, of a later one, damaged as a whole, damaged in a row."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from composer.record import RenderRecord
from composer.request import RenderRequest
from lora_zoo.errors import BadFile
from pipelines.jobs.states import State
from ui import base
from ui.errors import CannotStore, DamagedHistory, DamagedRow, NotThere
from ui.history import FILE, Asked, History, Kept

REQUEST = RenderRequest(prompt="a meadow", num_inference_steps=1)


def record() -> RenderRecord:
    done = {
        "versions": {},
        "dtype": "float32",
        "device": "cpu",
        "rows_per_call": 2,
        "unet_passes": 1,
        "unet_rows": 2,
    }
    return RenderRecord.model_validate(
        {**REQUEST.model_dump(), **done, "unet_calls": 1, "seconds": 0.5, "pixels_sha256": "0" * 64}
    )


def put(history: History, job: str, position: int, picture: str) -> None:
    (history.folder / "pictures" / f"{picture}.png").write_bytes(b"a picture")
    history.put(Kept(picture, job, position, record(), 0.5, float(position), {"mask": "data:"}))


def change(folder: Path, sql: str, *values: str) -> None:
    with sqlite3.connect(folder / FILE) as other:
        other.execute(sql, values)


def garbage(file: Path) -> None:
    file.write_bytes(b"this is no database" * 100)


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


def foreign(file: Path) -> None:
    file.unlink()
    with sqlite3.connect(file) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("PRAGMA user_version = 99")
    other.close()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (garbage, r"history.sqlite cannot be read \(file is not a database\). Move it away, or name another .*--data"),
        (cut_short, r"history.sqlite cannot be read \(database disk image is malformed\). Move it away"),
        (foreign, "was written by a later Medley .version 99; this one knows 1.; use that one"),
    ],
)
def test_a_damaged_history_says_what_to_do(spoil: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    History(tmp_path).close()
    for beside in ("-wal", "-shm"):
        (tmp_path / f"{FILE}{beside}").unlink(missing_ok=True)
    spoil(tmp_path / FILE)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(DamagedHistory, match=message):
        History(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


def test_a_history_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    history = History(tmp_path)
    job = history.add(Asked((REQUEST,)))
    put(history, job.id, 0, "0")
    history.close()
    with sqlite3.connect(tmp_path / FILE, isolation_level=None) as other:
        other.execute("ALTER TABLE pictures DROP COLUMN outline")
        other.execute("PRAGMA user_version = 0")
    again = History(tmp_path)
    assert [(kept.id, kept.outline) for kept in again.pictures(job.id)] == [("0", None)]
    assert (again.job(job.id).asked, again.picture("0").findings) == (job.asked, {"mask": "data:"})
    again.close()
    History(tmp_path).close()


def test_an_empty_file_is_an_empty_history(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    history = History(tmp_path)
    assert history.jobs() == []
    history.close()


@pytest.mark.parametrize(
    ("column", "content"),
    [("record", "{}"), ("record", '{"prompt"'), ("findings", "[]"), ("findings", "{"), ("outline", "7")],
)
def test_a_damaged_picture_is_told_and_left_out(column: str, content: str, tmp_path: Path) -> None:
    history = History(tmp_path)
    job = history.add(Asked((REQUEST,) * 3))
    for position in range(3):
        put(history, job.id, position, f"{position}")
    if content == "[]":
        content = "[7]"
    change(tmp_path, f"UPDATE pictures SET {column} = ? WHERE id = '1'", content)
    assert [kept.id for kept in history.pictures(job.id)] == ["0", "2"]
    assert [kept.id for kept in history.search("meadow")] == ["2", "0"]
    assert list(history.left_out) == ["1"]
    assert history.left_out["1"].startswith("picture 1 was written by another version of Medley, or is damaged")
    with pytest.raises(DamagedRow):
        history.picture("1")
    assert history.whole(job.id) == {0, 2}  # so that the job, when it is resumed, makes it again
    put(history, job.id, 1, "new")
    assert [kept.id for kept in history.pictures(job.id)] == ["0", "new", "2"]
    history.close()


def test_a_picture_whose_file_is_gone_is_not_there(tmp_path: Path) -> None:
    history = History(tmp_path)
    job = history.add(Asked((REQUEST,)))
    put(history, job.id, 0, "0")
    history.file("0").unlink()
    with pytest.raises(NotThere, match="the file of picture '0' is not there any more"):
        history.file("0")
    assert history.whole(job.id) == set()
    history.close()


def test_the_pixels_of_a_picture_are_those_of_a_png(tmp_path: Path) -> None:
    history = History(tmp_path)
    job = history.add(Asked((REQUEST,)))
    put(history, job.id, 0, "0")
    with pytest.raises(BadFile, match="the file of picture 0: not a picture of a kind that is read"):
        history.image("0")
    Image.new("RGB", (2, 1), (1, 2, 3)).save(history.file("0"), "GIF")
    with pytest.raises(BadFile, match="PNG"):
        history.image("0")
    Image.new("RGBA", (2, 1), (1, 2, 3, 4)).save(history.file("0"), "PNG")
    found = history.image("0")
    assert (found.mode, found.size, found.getpixel((1, 0))) == ("RGB", (2, 1), (1, 2, 3))
    history.close()


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a": "\\ud800"}', f'{{"a": {"9" * 5000}}}'])
def test_rows_of_another_program_s_are_read_within_bounds(content: str, tmp_path: Path) -> None:
    history = History(tmp_path)
    job = history.add(Asked((REQUEST,)))
    put(history, job.id, 0, "0")
    for column in ("record", "findings", "outline"):
        change(tmp_path, f"UPDATE pictures SET {column} = ?", content)
    change(tmp_path, "UPDATE jobs SET requests = ?", content)
    assert history.pictures(job.id) == []
    with pytest.raises(DamagedRow):
        history.job(job.id)
    history.close()


def test_a_damaged_job_is_listed_moved_and_cancelled(tmp_path: Path) -> None:
    history = History(tmp_path)
    jobs = [history.add(Asked((REQUEST,), title=title)) for title in "abc"]
    change(tmp_path, "UPDATE jobs SET requests = ? WHERE id = ?", "[{", jobs[1].id)
    listed = history.jobs()
    assert [(one.title, one.state, one.error) for one in listed] == [
        ("a", State.WAITING, ""),
        ("b", State.FAILED, "its row in the history cannot be read"),
        ("c", State.WAITING, ""),
    ]
    history.move(jobs[1].id, up=True)
    assert [one.title for one in history.jobs()] == ["b", "a", "c"]
    assert history.withdraw(jobs[1].id)
    assert history.state(jobs[1].id)[0] is State.CANCELLED
    change(tmp_path, "UPDATE jobs SET state = ? WHERE id = ?", "someday", jobs[2].id)
    with pytest.raises(DamagedRow, match="'someday' is not a valid State"):
        history.state(jobs[2].id)
    assert len(history.jobs()) == 3
    history.close()


def test_who_reads_does_not_wait_for_who_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "WAIT", 0.01)
    history = History(tmp_path)
    job = history.add(Asked((REQUEST,)))
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert (history.state(job.id)[0], len(history.jobs()), history.search("x")) == (State.WAITING, 1, [])
    with pytest.raises(CannotStore, match="the history cannot be used at the moment: database is locked"):
        history.add(Asked((REQUEST,)))
    other.execute("ROLLBACK")
    other.close()
    history.add(Asked((REQUEST,)))
    history.close()
