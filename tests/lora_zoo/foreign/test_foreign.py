"""The one door for what strangers write: what is let in, and what is refused before it costs anything."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from lora_zoo.errors import BadFile
from lora_zoo.foreign import databases, documents, files, patterns, text


def test_a_regular_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(b"x" * 10)
    assert files.read(file, 10) == b"x" * 10
    with pytest.raises(BadFile, match="more than 9 bytes"):
        files.read(file, 9)


def test_pipes_devices_and_folders_are_refused_at_once(tmp_path: Path) -> None:
    pipe, device = tmp_path / "pipe", tmp_path / "zero"
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    for path, what in ((pipe, "a pipe"), (device, "a device"), (tmp_path, "a folder")):
        with pytest.raises(BadFile, match=what):
            files.read(path, 10)


@pytest.mark.parametrize("name", ["missing", "n\0ul", "x" * 300])
def test_names_that_no_file_has_are_typed_errors(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadFile, match="cannot be opened"):
        files.read(tmp_path / name, 10)


def test_links_may_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    secret, folder = tmp_path / "secret", tmp_path / "zoo"
    folder.mkdir()
    secret.write_text("s")
    (folder / "out").symlink_to(secret)
    (folder / "here").write_text("h")
    (folder / "in").symlink_to("here")
    (folder / "round").symlink_to("round")
    assert files.read(folder / "in", 10, within=folder) == b"h"
    for name in ("out", "../secret"):
        with pytest.raises(BadFile, match="leads out of its folder"):
            files.read(folder / name, 10, within=folder)
    with pytest.raises(BadFile):
        files.read(folder / "round", 10, within=folder)


def test_a_cache_of_the_hub_keeps_its_contents_beside_its_snapshots(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "0" / "unet"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (blobs / "abc").write_text("{}")
    (snapshot / "config.json").symlink_to(blobs / "abc")
    (tmp_path / "secret").write_text("s")
    (snapshot / "out.json").symlink_to(tmp_path / "secret")
    assert files.read(snapshot / "config.json", 10, within=snapshot) == b"{}"
    with pytest.raises(BadFile, match="leads out"):
        files.read(snapshot / "out.json", 10, within=snapshot)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ("[" * 65, "nested more than 64 deep"),
        ('{"a":' * 65, "nested more than 64 deep"),
        ("9" * 5000, "not JSON"),
        ("{", "not JSON"),
        (b"\xff", "not text in UTF-8"),
        ('"\\ud800"', "half of a character"),
        ('{"a": ["\\udc00"]}', "half of a character"),
        ('"\ud800"', "half of a character"),
        ('"' + "x" * 4_000_001 + '"', "characters; at most"),
    ],
)
def test_json_beyond_its_bounds_is_a_typed_error(document: str | bytes, why: str) -> None:
    with pytest.raises(BadFile, match=why):
        documents.json_value(document, "here")


def test_json_is_read_as_tools_write_it() -> None:
    assert documents.json_value('{"a": [NaN, "[[", "\\ud83d\\ude00"]}', "here") == {"a": [None, "[[", "\U0001f600"]}
    for strict in ('{"a": NaN}', '{"a": 1, "a": 2}'):
        with pytest.raises(BadFile):
            documents.json_value(strict, "here", strict=True)


def test_yaml_aliases_depth_and_numbers_are_refused_before_they_are_built() -> None:
    bomb = "a: &a [x, x]\nb: &b [*a, *a]\n"
    for document, why in (
        (bomb, "line 2 uses an alias"),
        ("[" * 65, "nested more than 4 deep"),
        ("{", "not YAML"),
        ("!!python/object/apply:os.system [x]", "not YAML"),
        ("- 1\n" * 11, "more than 10 values"),
        ('"\\ud800"', "character|not YAML"),
    ):
        with pytest.raises(BadFile, match=why):
            documents.yaml_value(document, "here", documents.Bounds(depth=4, nodes=10))
    assert documents.yaml_value("a: [1, x]", "here") == {"a": [1, "x"]}


def test_patterns_take_linear_time_and_bounded_memory() -> None:
    started = time.perf_counter()
    fits = patterns.compiled(r"(.*\.)?((([a-z_.0-9]+)+)+X)", "here")
    assert not fits("a." * 2_000)
    assert time.perf_counter() - started < 5
    assert patterns.compiled(r"(.*\.)?(to_q)", "here")("a.b.to_q")
    for pattern in ("(?=a)", "(", "((a{999}){999}){999}", "x" * 1001):
        with pytest.raises(BadFile):
            patterns.compiled(pattern, "here")


def test_halves_of_characters() -> None:
    assert text.check("\U0001f600", "here") == "\U0001f600"
    with pytest.raises(BadFile, match="half of a character"):
        text.check("a\ud800", "here")
    assert text.escaped("a\ud800") == "a\\ud800"


def test_databases_are_regular_files_within_their_folder_whose_schema_calls_nothing_of_ours(tmp_path: Path) -> None:
    with closing(databases.connected(tmp_path / "made", 1.0, tmp_path)) as base:
        base.create_function("act", 0, lambda: 7)
        base.execute("CREATE VIEW jobs AS SELECT act() AS number")
        with pytest.raises(sqlite3.OperationalError, match="unsafe use of act"):
            base.execute("SELECT number FROM jobs").fetchall()
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "made")
    os.mkfifo(folder / "pipe")
    with pytest.raises(BadFile, match="leads out of its folder"):
        databases.connected(folder / "link", 1.0, folder)
    databases.connected(folder / "link", 1.0).close()  # of a folder that nobody else fills
    for path in (folder, folder / "pipe", Path("/dev/zero")):
        with pytest.raises(BadFile, match="not a regular file"):
            databases.connected(path, 1.0)
    with pytest.raises(BadFile, match="cannot be opened"):
        databases.connected(tmp_path / "a\0b", 1.0)


def test_the_digest_of_a_file_is_that_of_its_content(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc" * 1_000_000)
    assert files.sha256(tmp_path / "file") == hashlib.sha256(b"abc" * 1_000_000).hexdigest()
    assert files.sha256(tmp_path / "file", 2_999_997) == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(BadFile, match="a folder"):
        files.sha256(tmp_path)
