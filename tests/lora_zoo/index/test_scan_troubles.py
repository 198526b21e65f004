"""Scanning what misbehaves: links, pipes, strange names, files that change, folders that cannot be read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lora_zoo.errors import BadFile
from lora_zoo.index import rows as index_rows
from lora_zoo.index.scan import scan
from lora_zoo.index.store import Store
from tests.lora_zoo.index.folders import by_name, counts, facts_of, lora


def test_links_are_followed_and_loops_end(root: Path, store: Store, tmp_path: Path) -> None:
    lora(root / "a" / "one.safetensors", 1)
    outside = lora(tmp_path / "elsewhere" / "two.safetensors", 2)
    (root / "a" / "up").symlink_to(root)
    (root / "0again").symlink_to(root / "a")
    (root / "out").symlink_to(outside.parent)
    (root / "self").symlink_to(root / "self")
    (root / "dangling.safetensors").symlink_to(root / "nowhere.safetensors")
    report = scan(store, root)
    assert counts(report)[:2] == (3, 3)
    found = by_name(store, root)
    assert found["one"].path == str(root / "a" / "one.safetensors")  # not by the link that sorts before it
    assert found["two"].path == str(root / "out" / "two.safetensors")
    assert found["dangling"].error == "a link to nothing"


def test_a_pipe_is_not_waited_for(root: Path, store: Store) -> None:
    os.mkfifo(root / "pipe.safetensors")
    scan(store, root)
    assert by_name(store, root)["pipe"].error == "not a plain file"


@pytest.mark.parametrize("name", [b"caf\xe9 \xff.safetensors", b"caf\xe9 \xff/a.safetensors"])
def test_names_that_are_not_utf8_are_rows_with_their_reason(name: bytes, root: Path, store: Store) -> None:
    path = root / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    lora(path, 1)
    report = scan(store, root)
    (row,) = store.rows([root])
    assert (report.files, report.refused) == (1, 1)
    assert row.path == str(path)
    assert row.facts is None
    assert "is not UTF-8" in row.error
    shown = json.dumps([row.name, row.relative, row.error], ensure_ascii=False).encode("utf-8")  # as pages are sent
    assert b"caf\\\\udce9 \\\\udcff" in shown
    assert store.named(row.name, [root]) == [row]
    assert counts(scan(store, root))[0] == 1


def test_what_lies_beside_a_lora_may_not_lead_out_of_the_zoo(root: Path, store: Store, tmp_path: Path) -> None:
    secret, elsewhere = tmp_path / "secret", tmp_path / "elsewhere"
    secret.write_text('{"activation text": "secret"}')
    elsewhere.mkdir()
    (root / "previews").mkdir()
    (root / "previews" / "in.png").write_bytes(b"in")
    for folder, name in ((root, "a"), (root, "b"), (elsewhere, "c")):
        lora(folder / f"{name}.safetensors", ord(name))
    (root / "a.png").symlink_to(secret)
    (root / "a.json").symlink_to(secret)
    (root / "b.png").symlink_to(root / "previews" / "in.png")
    os.mkfifo(root / "b.preview.png")
    os.mkfifo(root / "b.json")
    (elsewhere / "c.png").write_bytes(b"c")
    (root / "linked").symlink_to(elsewhere)
    scan(store, root)
    facts = {name: facts_of(row) for name, row in by_name(store, root).items()}
    assert {name: one.preview for name, one in facts.items()} == {
        "a": None,
        "b": str(root / "b.png"),
        "c": str(root / "linked" / "c.png"),  # the user's own link, and what it leads to
    }
    assert facts["a"].triggers == ()
    assert facts["a"].notes == (
        "sidecar *.json: leads out of its folder, which no file of it may",
        "preview *.png: leads out of its folder, which no file of it may",
    )
    assert facts["b"].notes == (
        "sidecar *.json: a pipe, not a regular file",
        "preview *.preview.png: a pipe, not a regular file",
    )


def test_a_file_that_vanishes_while_scanning_is_no_row(root: Path, store: Store) -> None:
    lora(root / "a.safetensors", 1)
    lora(root / "b.safetensors", 2)
    assert scan(store, root, on_file=lambda done, of: (root / "b.safetensors").unlink(missing_ok=True)).files == 1
    assert set(by_name(store, root)) == {"a"}


def test_a_file_that_changes_while_it_is_read_is_read_again(
    root: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lora(root / "a.safetensors", 1)
    describe, times = index_rows.describe, []

    def meanwhile(*arguments: object) -> object:
        info = describe(*arguments)  # type: ignore[arg-type]
        times.append(len(times))
        if len(times) <= limit:
            lora(path, 100 + len(times), {"ss_comment": "x" * len(times)})
        return info

    monkeypatch.setattr(index_rows, "describe", meanwhile)
    limit = 1
    scan(store, root)
    final = facts_of(by_name(store, root)["a"]).hashes.autov2
    limit, times[:] = 99, []
    lora(path, 3)
    scan(store, root)
    assert by_name(store, root)["a"].error == "the file changed while it was read"
    limit, times[:] = 0, []
    lora(path, 101, {"ss_comment": "x"})
    scan(store, root)
    assert facts_of(by_name(store, root)["a"]).hashes.autov2 == final


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_listed_keeps_its_rows(root: Path, store: Store) -> None:
    lora(root / "closed" / "a.safetensors", 1)
    scan(store, root)
    (root / "closed").chmod(0)
    try:
        report = scan(store, root)
    finally:
        (root / "closed").chmod(0o755)
    assert set(report.unread) == {root / "closed"}
    assert set(by_name(store, root)) == {"a"}


def test_a_folder_that_fails_while_listing_keeps_its_rows(
    root: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora(root / "closed" / "a.safetensors", 1)
    lora(root / "open" / "b.safetensors", 2)
    scan(store, root)
    listing = os.scandir

    def failing(path: Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr("lora_zoo.index.walk.os.scandir", failing)
    (root / "open" / "b.safetensors").unlink()
    report = scan(store, root)
    assert dict(report.unread) == {root / "closed": "Permission denied"}
    assert set(by_name(store, root)) == {"a"}


def test_a_folder_that_is_not_there_is_an_error_and_keeps_its_rows(root: Path, store: Store) -> None:
    lora(root / "a.safetensors", 1)
    scan(store, root)
    root.rename(root.with_name("away"))
    with pytest.raises(BadFile, match="no such folder"):
        scan(store, root)
    assert set(by_name(store, root)) == {"a"}
