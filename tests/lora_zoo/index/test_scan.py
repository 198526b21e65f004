"""Scanning folders: what is found, what is read again and what is not."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora_zoo.errors import BadFile
from lora_zoo.index.copies import copies
from lora_zoo.index.scan import scan
from lora_zoo.index.store import Store, default_path
from tests.lora_zoo.index.folders import by_name, counts, facts_of, lora, lora_bytes


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a file was opened that has not changed")

    monkeypatch.setattr("lora_zoo.index.scan.examine", fail)


def test_a_second_scan_opens_nothing_and_a_third_only_what_changed(
    root: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        lora(root / f"sub{number % 2}" / f"lora{number}.safetensors", number)
    assert counts(scan(store, root)) == (5, 5, 0, 0, 0)
    with monkeypatch.context() as patched:
        forbid_reading(patched)
        assert counts(scan(store, root)) == (5, 0, 0, 0, 0)
    (root / "sub0" / "lora0.safetensors").unlink()
    lora(root / "sub0" / "lora2.safetensors", 77, {"ss_output_name": "other"})
    lora(root / "deep" / "er" / "lora9.safetensors", 9)
    report = scan(store, root)
    assert counts(report) == (5, 1, 1, 1, 0)
    assert set(by_name(store, root)) == {"lora1", "lora2", "lora3", "lora4", "lora9"}
    assert facts_of(by_name(store, root)["lora2"]).alias == "other"


def test_a_row_holds_what_file_and_sidecars_say(root: Path, store: Store) -> None:
    stated = {
        "ss_output_name": "alice_v3",
        "sshs_model_hash": "0xABCDEF0123456789",
        "sshs_legacy_hash": "deadbeef",
        "modelspec.license": "MIT",
        "ss_tag_frequency": json.dumps({"10_x": {"x" * 3000: 1}}),
        "training_comment": "private",
    }
    path = lora(root / "alice.safetensors", 1, stated)
    said = {
        "activation text": "al1ce, blue dress",
        "preferred weight": 0.7,
        "description": "Alice",
        "sd version": "SD1",
    }
    (root / "alice.json").write_text(json.dumps(said))
    manager = {
        "civitai": {"trainedWords": ["ignored"]},
        "usage_tips": json.dumps({"strength_min": 0.4, "strength_max": "0.9"}),
        "base_model": "SDXL 1.0",
    }
    (root / "alice.metadata.json").write_text(json.dumps(manager))
    (root / "alice.preview.png").write_bytes(b"")
    scan(store, root)
    facts = facts_of(by_name(store, root)["alice"])
    assert (facts.triggers, facts.weight, facts.weight_range) == (("al1ce", "blue dress"), 0.7, (0.4, 0.9))
    assert (facts.alias, facts.licence, facts.description, facts.family) == ("alice_v3", "MIT", "Alice", "sd15")
    assert facts.preview == str(root / "alice.preview.png")
    assert set(facts.metadata) == {"ss_output_name", "sshs_model_hash", "sshs_legacy_hash", "modelspec.license"}
    assert any("ss_tag_frequency" in note for note in facts.notes)
    known = facts.hashes
    assert (known.autov3, known.sshs_model, known.sshs_legacy) == ("abcdef012345", "abcdef0123456789", "deadbeef")
    assert known.autov2 == known.sha256[:10]
    assert path.read_bytes()  # nothing is written beside the files
    assert sorted(one.name for one in root.iterdir()) == [
        "alice.json",
        "alice.metadata.json",
        "alice.preview.png",
        "alice.safetensors",
    ]


def test_civitai_info_is_read_and_broken_sidecars_are_noted(root: Path, store: Store) -> None:
    lora(root / "bob.safetensors", 1)
    (root / "bob.civitai.info").write_text(json.dumps({"trainedWords": ["b0b, hat", "b0b"], "baseModel": "SD 1.5"}))
    (root / "bob.json").write_text("{not json")
    (root / "bob.metadata.json").write_text(json.dumps({"civitai": [1]}))
    scan(store, root)
    facts = facts_of(by_name(store, root)["bob"])
    assert facts.triggers == ("b0b", "hat")
    assert [note.split(":")[0] for note in facts.notes] == ["sidecar *.json", "sidecar *.metadata.json"]


def test_halves_of_characters_in_sidecars_are_escaped(root: Path, store: Store) -> None:
    lora(root / "odd.safetensors", 1)
    (root / "odd.json").write_text('{"activation text": "a\\ud800b", "description": "\\udfff"}')
    scan(store, root)
    facts = facts_of(by_name(store, root)["odd"])
    assert (facts.triggers, facts.description) == (("a\\ud800b",), "\\udfff")


def test_a_folder_inside_another_is_scanned_for_both(root: Path, store: Store) -> None:
    lora(root / "sub" / "a.safetensors", 1)
    assert [counts(scan(store, folder))[:3] for folder in (root, root / "sub", root, root / "sub")] == [
        (1, 1, 0),
        (1, 1, 0),
        (1, 0, 0),
        (1, 0, 0),
    ]
    assert len(store.rows([root, root / "sub"])) == 1
    assert len(store.rows([root])) == 1


def test_a_changed_sidecar_is_read_without_hashing_the_file_again(
    root: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora(root / "alice.safetensors", 1)
    scan(store, root)
    before = facts_of(by_name(store, root)["alice"]).hashes

    def fail(*_: object) -> None:
        raise AssertionError("hashed again")

    monkeypatch.setattr("lora_zoo.hashes.of_lora", fail)
    (root / "alice.json").write_text(json.dumps({"preferred weight": "0.25"}))
    assert counts(scan(store, root)) == (1, 0, 1, 0, 0)
    assert facts_of(by_name(store, root)["alice"]).weight == 0.25
    assert facts_of(by_name(store, root)["alice"]).hashes == before


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | st.binary(max_size=60).map(lambda cut: lora_bytes(1)[: len(cut) * 40] + cut))
def test_a_corrupt_file_is_a_row_with_its_reason(content: bytes, root: Path, store: Store) -> None:
    (root / "bad.safetensors").write_bytes(content)
    lora(root / "good.safetensors", 1)
    report = scan(store, root)
    found = by_name(store, root)
    assert found["good"].facts is not None
    assert bool(found["bad"].error) == (found["bad"].facts is None)
    assert report.refused == bool(found["bad"].error)
    assert str(root) not in found["bad"].error


def test_pickles_and_checkpoints_are_refused_without_being_read(root: Path, store: Store) -> None:
    (root / "old.pt").write_bytes(b"PK\x03\x04" + b"\0" * 50)
    head = json.dumps({"model.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (root / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + b"\0" * 4)
    scan(store, root)
    found = by_name(store, root)
    assert "pickle" in found["old"].error
    assert "without LoRA layers" in found["model"].error


def test_peft_folders_are_one_lora_each(root: Path, store: Store) -> None:
    folder = root / "peft_one"
    lora(folder / "adapter_model.safetensors", 1)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 1}))
    lora(root / "broken" / "adapter_model.safetensors", 1)
    scan(store, root)
    found = by_name(store, root)
    assert set(found) == {"peft_one", "broken"}
    assert facts_of(found["peft_one"]).hashes.sha256 != facts_of(found["peft_one"]).hashes.autov2
    assert "adapter_config.json missing" in found["broken"].error
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 2.0}))
    assert scan(store, root).changed == 1  # the configuration decides the strength


def test_copies_are_found_by_their_data(root: Path, store: Store) -> None:
    first = lora(root / "a.safetensors", 1)
    lora(root / "b" / "a.safetensors", 1)
    lora(root / "renamed.safetensors", 2)
    lora(root / "resaved.safetensors", 2, {"ss_comment": "touched"})
    lora(root / "alone.safetensors", 3)
    os.link(first, root / "linked.safetensors")
    scan(store, root)
    found = {one.what: (len(one.rows), one.spare) for one in copies(store.rows([root]))}
    size = first.stat().st_size
    assert found == {
        "the same file": (3, size),
        "the same weights with other metadata": (2, (root / "renamed.safetensors").stat().st_size),
    }


def test_an_index_that_is_none_is_refused_and_one_of_another_version_made_anew(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "zoo.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(BadFile, match="may be deleted"):
        Store(path)
    path.unlink()
    store = Store(path)
    lora(root / "a.safetensors", 1)
    scan(store, root)
    base = sqlite3.connect(path)
    assert base.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    base.execute("PRAGMA user_version = 999")
    base.commit()
    base.close()
    assert Store(path).rows([root]) == []


def test_scans_at_the_same_time_do_not_disturb_each_other(root: Path, store: Store) -> None:
    for number in range(30):
        lora(root / f"{number}.safetensors", number)
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda _: scan(store, root), range(8)))
    assert {report.files for report in reports} == {30}
    assert len(store.rows([root])) == 30


def test_the_index_lies_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLEY_CACHE", str(tmp_path))
    assert default_path() == tmp_path / "zoo.sqlite"
    monkeypatch.delenv("MEDLEY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr("sys.platform", "linux")
    assert default_path() == tmp_path / "xdg" / "medley" / "zoo.sqlite"


@pytest.mark.slow
def test_ten_thousand_unchanged_files_take_seconds(root: Path, store: Store) -> None:
    for number in range(10_000):
        lora(root / f"{number % 100:02d}" / f"{number}.safetensors", number)
    scan(store, root)
    started = time.perf_counter()
    assert counts(scan(store, root)) == (10_000, 0, 0, 0, 0)
    assert time.perf_counter() - started < 10
