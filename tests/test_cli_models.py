"""What the command line says of models, and the options on how they are run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import main
from tests import checkpoints
from tests.checkpoints import XL


def price(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    """Return the exit code of a dry run, and what it printed."""
    code = main(["render", "--prompt", "a cat", "--dry-run", "--json", *options])
    out, err = capsys.readouterr()
    return code, out if code == 0 else err


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("single")
    return str(checkpoints.save_single(checkpoints.seeded(XL), folder / "xl.safetensors"))


def test_a_single_file_is_priced_with_sdxl_sizes(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ("--original-size", "512x384", "--crop", "1,2", "--target-size", "64x32")
    code, out = price(capsys, "--model", file, "--size", "64x64", "--prediction", "v_prediction", *sizes)
    request: dict[str, Any] = json.loads(out)["requests"][0]
    assert code == 0
    assert (request["original_size"], request["crop_corner"], request["target_size"]) == ([512, 384], [1, 2], [64, 32])
    assert (request["prediction_type"], request["scheduler"], request["guidance_scale"]) == ("v_prediction", "euler", 5)


def test_inspect_tells_what_a_model_is(
    file: str, xl_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, layout in ((file, "one file"), (str(xl_folder), "folder")):
        assert main(["inspect", path, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["model"]
        assert (found["layout"], found["predicts"], len(found["text_encoders"])) == (layout, "epsilon", 2)
        assert main(["inspect", path]) == 0
        assert layout in capsys.readouterr().out
    (tmp_path / "model_index.json").write_text("{}")
    assert main(["inspect", str(tmp_path)]) == 2
    assert "it lacks tokenizer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--dtype", "float61"), "unknown dtype 'float61'; did you mean 'float16'"),
        (("--attention", "xformer"), "did you mean 'xformers'"),
        (("--offload", "all"), "unknown offload 'all'"),
        (("--crop", "1x2"), "--crop '1x2': write X,Y"),
        (("--target-size", "64"), "--target-size '64': write WIDTHxHEIGHT"),
        (("--prediction", "v"), "prediction_type"),
        (("--crop", "1,2"), "only SDXL models read it; model 'tiny' is none"),
        (("--model", "models/absent.safetensors"), "there is no model folder 'models/absent.safetensors'"),
        (("--model", "absent.safetensors"), "there is no model folder 'absent.safetensors', nor a file"),
    ],
)
def test_mistakes(options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, err = price(capsys, *options)
    assert code == 2
    assert message in err


def test_a_pickle_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"\x80\x02}q\x00.")
    code, err = price(capsys, "--model", str(tmp_path / "model.ckpt"))
    assert code == 2
    assert "a pickle, which can run code; only safetensors files are read" in err
