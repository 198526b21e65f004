"""Folders of LoRAs on the command line: `zoo` and `--zoo`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_zoo.describe import describe
from lora_zoo.errors import BadFile
from pipelines import cli_output
from pipelines.cli import main
from tests.lora_zoo.index.folders import lora, lora_bytes


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDLEY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MEDLEY_ZOO", raising=False)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "loras"
    lora(folder / "alice.safetensors", 1, {"modelspec.trigger_phrase": "al1ce, blue dress"})
    lora(folder / "a" / "bob.safetensors", 2)
    lora(folder / "b" / "bob.safetensors", 3)
    lora(folder / "again.safetensors", 1, {"modelspec.trigger_phrase": "al1ce, blue dress"})
    (folder / "broken.safetensors").write_bytes(b"nothing")
    return folder


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_scan_counts(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (first,) = asked(capsys, "zoo", "scan", "--zoo", str(root))["scans"]
    (second,) = asked(capsys, "zoo", "scan", "--zoo", str(root))["scans"]
    assert [first[key] for key in ("files", "new", "refused")] == [5, 5, 1]
    assert [second[key] for key in ("files", "new", "changed", "gone", "refused")] == [5, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ((), {"alice", "bob", "again"}),
        (("BLUE",), {"alice", "again"}),
        (("bo",), {"bob"}),
        (("--family", "sd15"), {"alice", "bob", "again"}),
        (("--family", "sdxl"), set()),
        (("--refused",), {"broken"}),
    ],
)
def test_list_filters(
    arguments: tuple[str, ...], names: set[str], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = asked(capsys, "zoo", "list", *arguments, "--zoo", str(root))["loras"]
    assert {row["name"] for row in rows} == names


def test_list_finds_by_hash_and_show_tells_all(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = asked(capsys, "zoo", "show", "a/bob", "--zoo", str(root))["lora"]
    for digest in (shown["sha256"], shown["autov2"], shown["autov3"].upper()):
        (row,) = asked(capsys, "zoo", "list", digest, "--zoo", str(root))["loras"]
        assert row["path"] == str(root / "a" / "bob.safetensors")
    assert (shown["family"], shown["rank"]) == ("sd15", 1)
    refused = asked(capsys, "zoo", "show", "broken", "--zoo", str(root))["lora"]
    assert "not a safetensors file" in refused["error"]


def test_tables_are_for_people(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", "list", "--zoo", str(root)]) == 0
    assert "al1ce, blue dress" in capsys.readouterr().out
    assert main(["zoo", "dedupe", "--zoo", str(root)]) == 0
    assert "1 LoRAs are there more than once" in capsys.readouterr().out


def test_dedupe_lists_copies(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = asked(capsys, "zoo", "dedupe", "--zoo", str(root))
    (copies,) = found["copies"]
    assert copies["paths"] == [str(root / "again.safetensors"), str(root / "alice.safetensors")]
    assert found["bytes"] == copies["spare_bytes"] == (root / "alice.safetensors").stat().st_size


def test_loras_of_a_folder_stand_beside_the_embedded_ones(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = asked(capsys, "list", "loras", "--zoo", str(root))["loras"]
    assert {"alice", "zorp"} <= {row["name"] for row in rows}


def test_render_takes_a_lora_of_a_folder_by_name_and_by_hash(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = root / "alice.safetensors"
    path.write_bytes(path.read_bytes().replace(b"attn2_to_k", b"attn1_to_k"))  # which does not tell its family
    (root / "again.safetensors").unlink()  # whose data, and with them AutoV3, are the same
    shown = asked(capsys, "zoo", "show", "alice", "--zoo", str(root))["lora"]
    monkeypatch.setenv("MEDLEY_ZOO", str(root))
    for name in ("alice", shown["autov3"], shown["autov2"]):
        planned = asked(capsys, "render", "--prompt", "x", "--lora", f"{name}:0.5", "--dry-run")
        (use,) = planned["requests"][0]["adapters"]
        assert (use["name"], use["sha256"], use["weight"]) == (name, shown["sha256"], 0.5)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("zoo", "list"), "--zoo FOLDER"),
        (("zoo", "scan", "--zoo", "nowhere"), "no such folder"),
        (("zoo", "show", "alcie", "--zoo", "loras"), "'alice'"),
        (("zoo", "show", "bob", "--zoo", "loras"), "2 different LoRAs"),
        (("render", "--prompt", "x", "--lora", "bob", "--zoo", "loras", "--dry-run"), "2 different LoRAs"),
        (("render", "--prompt", "x", "--lora", "broken", "--zoo", "loras", "--dry-run"), "not a safetensors file"),
        (("merge", "bob", "-o", "x.safetensors", "--zoo", "loras"), "2 different LoRAs"),
    ],
)
def test_mistakes_are_told(
    arguments: tuple[str, ...], told: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(list(arguments)) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("alpha", [float("nan"), float("inf"), float("-inf")])
def test_an_alpha_that_is_not_finite_refuses_its_file_and_no_other(
    alpha: float, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = root / "wild.safetensors"
    file.write_bytes(lora_bytes(4, alpha=alpha))
    rows = {row["name"]: row for row in asked(capsys, "zoo", "list", "--zoo", str(root), "--refused")["loras"]}
    assert f"alpha is {alpha:g}, not a finite number" in rows["wild"]["error"]
    assert {row["name"] for row in asked(capsys, "zoo", "list", "--zoo", str(root))["loras"]} == {
        "alice",
        "again",
        "bob",
    }
    assert "not a finite number" in asked(capsys, "zoo", "show", "wild", "--zoo", str(root))["lora"]["error"]
    for command in (["inspect", str(file)], ["check", "--lora", str(file)]):
        assert main([*command, "--json"]) == 2, command
        assert f"alpha is {alpha:g}, not a finite number" in "".join(capsys.readouterr()), command


def test_a_peft_alpha_of_hundreds_of_digits_refuses_its_folder(tmp_path: Path, root: Path) -> None:
    folder = tmp_path / "peft"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(lora_bytes(1))
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 1, "lora_alpha": 1' + "0" * 400 + "}")
    with pytest.raises(BadFile, match="lora_alpha: expected a finite number"):
        describe(folder)


def test_a_document_has_null_where_a_number_is_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    cli_output.document({"alphas": [float("nan"), 1.5], "of": {"largest": float("inf"), "name": "nan"}})
    assert json.loads(capsys.readouterr().out) == {"alphas": [None, 1.5], "of": {"largest": None, "name": "nan"}}
