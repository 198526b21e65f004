"""By which model something is measured: its name in everything that is told, and what is found out before rendering."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest

from app import main
from composer.errors import UnknownChoice
from eval import viewers
from eval.clip import FOLDER, Clip, check
from eval.commands import RunFlags, run
from eval.errors import BadMetric
from lora_zoo import hashes

NAMED = "ViT-B-16:openai is the published protocol's"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another CLIP, as far as its name goes."""
    return Path(shutil.copytree(FOLDER, tmp_path / "theirs"))


def typed(flags: RunFlags, *more: str) -> list[str]:
    return ["eval", "run", flags.suite, "--methods", "naive,merge", "--out", str(flags.out), *more]


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_the_embedded_clip_is_not_taken_for_pictures_that_it_does_not_know(
    flags: RunFlags, more: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(typed(flags, *more)) == 2
    told = capsys.readouterr().err
    assert "CLIPScore needs a CLIP" in told and NAMED in told and "Traceback" not in told
    assert main(typed(flags, *more, "--metrics", "clipscore")) == 2
    assert "metric 'clipscore' needs a CLIP" in capsys.readouterr().err
    assert not flags.out.exists()


def test_the_embedded_world_needs_no_clip_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["eval", "run", "compos", "--sets", "1", "--methods", "merge", "--out", str(tmp_path / "out"), "--dry-run"]
    assert main([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["measured_by"] == {"clip": "embedded CLIP"}
    assert told["more"] == [
        {"method": "once more, to count effort", "pictures": 4, "unet_passes": 80, "unet_calls": 80}
    ]
    assert main(asked) == 0
    assert "measured by: the detectors of the embedded world, pixels, embedded CLIP" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--clip", "ViT-Z-99:openai"), "unknown CLIP 'ViT-Z-99'"),
        (("--clip", "ViT-B-16:opanai"), "did you mean 'openai'"),
        (("--clip", "no/such/folder"), "unknown CLIP"),
        (("--clip", "ViT-B-16:openai"), "its weights are not on this machine, and HF_HUB_OFFLINE"),
        (("--clip", "hf-hub:nobody/nothing"), "its weights are not on this machine, and HF_HUB_OFFLINE"),
        (("--clip", "embedded", "--metrics", "nonsense"), "unknown metric 'nonsense'"),
        (("--clip", "embedded", "--metrics", "presence"), "'presence' needs a ground truth"),
        (("--clip", "embedded", "--metrics", "clip_reference"), "(--references)"),
        (("--clip", "embedded", "--dino", "vit_base_patch16_224.dino"), "add --references N"),
        (("--clip", "embedded", "--references", "1", "--dino", "vit_base_patch16_224.dyno"), "unknown DINO"),
        (("--clip", "embedded", "--references", "1", "--dino", "test_vit:x.pth"), "must be a safetensors file"),
        (("--clip", "embedded", "--references", "1", "--dino", "vit_base_patch16_224.dino"), "HF_HUB_OFFLINE"),
        (("--clip", "embedded", "--renew", "murge"), "unknown method to renew"),
        (("--clip", "embedded", "--ray", "not an address"), "is no cluster"),
    ],
)
@pytest.mark.parametrize("dry", [False, True])
def test_what_cannot_measure_is_refused_before_anything_is_rendered(
    flags: RunFlags,
    more: tuple[str, ...],
    message: str,
    dry: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(typed(flags, *more, *(("--dry-run",) if dry else ()))) == 2
    out = capsys.readouterr()
    assert message in out.err and len(out.err.splitlines()) == 1 and out.out == ""
    assert not flags.out.exists()


@pytest.mark.parametrize("package", ["timm", "torchmetrics"])
def test_a_package_that_is_missing_is_told_first(
    tmp_path: Path, package: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eval.dino.find_spec", lambda name: None)
    monkeypatch.setattr("eval.metrics.lpips.find_spec", lambda name: None)
    asked = {"timm": ["--dino", "test_vit"], "torchmetrics": ["--metrics", "lpips"]}[package]
    out = tmp_path / "out"
    base = ["eval", "run", "compos", "--sets", "1", "--methods", "merge", "--out", str(out), "--dry-run"]
    assert main([*base, *asked]) == 2
    assert f"needs {package}; install requirements-judge.txt" in capsys.readouterr().err and not out.exists()


def test_results_go_to_a_folder_that_takes_them(flags: RunFlags, capsys: pytest.CaptureFixture[str]) -> None:
    flags.out.write_text("a file")
    for place in (flags.out, flags.out / "below"):
        assert main([*typed(replace(flags, out=place), "--clip", "embedded", "--dry-run")]) == 2
        assert "is a file, not a folder" in capsys.readouterr().err
    assert flags.out.read_text() == "a file"


def test_weights_that_cannot_be_read_are_one_line_before_rendering(
    flags: RunFlags, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (other / "open_clip_model.safetensors").write_bytes(b"\xff" * 64)
    assert main(typed(flags, "--clip", str(other))) == 2
    told = capsys.readouterr().err
    assert "cannot be loaded" in told and len(told.splitlines()) == 1 and not flags.out.exists()
    (other / "open_clip_model.safetensors").unlink()
    with pytest.raises(BadMetric, match=r"holds no \*\.safetensors"):
        check(str(other))


def test_the_clip_s_name_is_wherever_its_figures_are(flags: RunFlags, other: Path) -> None:
    name = f"theirs@{hashes.autov2(other / 'open_clip_model.safetensors')}"
    assert run(replace(flags, clip=str(other), metrics=("clipscore", "cost")), as_json=False)
    page = (flags.out / "report.html").read_text()
    for title in ("CLIPScore", "CLIPScore, prompt", "CLIPScore, members", "CLIPScore, weakest"):
        assert f"<th>{title} ({name})</th>" in page
    assert f"<h3>CLIPScore ({name}), by the number of LoRAs</h3>" in page and "<th>CLIPScore</th>" in page  # published
    assert f"CLIPScore of this report is by {name}; the published one by ViT-B-16:openai." in page
    for table, by in (("pictures", "clip"), ("means", "measured_by"), ("contests", "measured_by")):
        with (flags.out / "figures" / f"{table}.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row.get("measure", "clipscore") == "clipscore"]
        assert rows and {row[by] for row in rows} == {name}
        written = json.loads((flags.out / "figures" / f"{table}.json").read_text())
        assert {row[by] for row in written if row.get("measure", "clipscore") == "clipscore"} == {name}
    assert {row["measured_by"] for row in written if row["measure"] == "passes"} <= {
        "each picture's record, and the clock"
    }


def test_a_folder_keeps_its_clip_until_another_is_named(flags: RunFlags, other: Path) -> None:
    asked = replace(flags, metrics=("clipscore", "cost"), sets=1, seeds=1)
    assert run(replace(asked, clip=str(other)), as_json=False)
    assert run(replace(asked, clip=None, methods="switch"), as_json=False)
    assert json.loads((flags.out / "run.json").read_text())["clip"] == str(other)
    assert run(asked, as_json=False)
    assert json.loads((flags.out / "run.json").read_text())["clip"] == "embedded"
    assert "CLIPScore (embedded CLIP)" in (flags.out / "report.html").read_text()


@pytest.mark.thorough
def test_runs_by_different_clips_are_told_apart(
    flags: RunFlags, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = replace(flags, metrics=("clipscore", "cost"), sets=1, seeds=1, methods="merge")
    assert run(asked, as_json=False)
    assert run(replace(asked, clip=str(other), out=tmp_path / "by_theirs"), as_json=False)
    assert main(["eval", "report", str(flags.out), str(tmp_path / "by_theirs")]) == 0
    page = (flags.out / "report.html").read_text()
    assert (
        "measured by different models, do not compare their figures: mine (out): embedded CLIP; mine (by_theirs)"
        in page
    )


@pytest.mark.thorough
def test_results_of_before_are_reported_without_a_clip_that_knows_nothing(flags: RunFlags) -> None:
    """A folder whose run.json names no CLIP, of a model that the embedded one does not know."""
    assert run(replace(flags, metrics=("cost",), clip=None, sets=1, methods="merge"), as_json=False)
    assert main(["eval", "report", str(flags.out)]) == 0
    page = (flags.out / "report.html").read_text()
    assert "nothing is measured by a CLIP, since none is named" in page and "CLIPScore (embedded" not in page


def test_a_clip_gets_the_activation_that_its_weights_were_trained_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """open_clip itself only warns, and computes with another one."""
    asked: dict[str, Any] = {}

    def made(name: str, **given: Any) -> Any:
        asked[f"{name}:{given['pretrained']}"] = given["force_quick_gelu"]
        raise RuntimeError("enough is known")

    monkeypatch.setattr(open_clip, "create_model_and_transforms", made)
    monkeypatch.setattr("eval.viewers.cached", lambda *_: True)
    for name in ("ViT-B-16:openai", "ViT-B-16:laion400m_e32"):
        with pytest.raises(BadMetric, match=f"CLIP {name} cannot be loaded: enough is known"):
            Clip.named(name)
    assert asked == {"ViT-B-16:openai": True, "ViT-B-16:laion400m_e32": False}


def test_names() -> None:
    assert viewers.clip_name(None) == viewers.clip_name("embedded") == "embedded CLIP"
    assert viewers.clip_name("ViT-B-16:openai") == "ViT-B-16:openai"
    assert viewers.dino_name("vit_base_patch16_224.dino") == "vit_base_patch16_224.dino"
    assert viewers.lacks_clip(None, ["tiny"]) is None
    with pytest.raises(UnknownChoice):
        viewers.lacks_clip(None, ["tinny"])


def test_a_suite_of_the_embedded_world_on_another_model_needs_a_clip_too(
    small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["eval", "run", "compos", "--sets", "1", "--methods", "naive", "--out", str(tmp_path / "out"), "--dry-run"]
    assert main([*asked, "--model", str(small_folder)]) == 2
    assert NAMED in capsys.readouterr().err
