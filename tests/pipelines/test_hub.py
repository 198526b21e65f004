"""Hub ids through the cache of huggingface_hub, without a network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from pipelines import hub, specs
from pipelines.errors import BadModel
from pipelines.model import LoadedModel

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def put(cache: Path, folder: Path, name: str) -> Path:
    """Lay a model into the cache as the hub's own client does."""
    repo = cache / f"models--{name.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(REVISION)
    return Path(shutil.copytree(folder, repo / "snapshots" / REVISION))


@pytest.mark.parametrize(
    ("name", "whether"),
    [
        ("org/name", True),
        ("a.b/c-1_2", True),
        ("org", False),
        ("a/b/c", False),
        ("./x", False),
        ("../x", False),
        ("a/b.ckpt", False),
    ],
)
def test_what_may_be_a_hub_id(name: str, whether: bool) -> None:
    assert hub.is_id(name) == whether


def test_a_cached_model_is_loaded(cache: Path, small_folder: Path, small: LoadedModel) -> None:
    put(cache, small_folder, "org/small")
    spec = specs.find("org/small")
    assert (spec.name, spec.hub_id, spec.width) == ("org/small", "org/small", 16)
    assert LoadedModel.load(spec, torch.device("cpu")).parameter_digest() == small.parameter_digest()


def test_a_model_that_is_not_cached(cache: Path) -> None:
    with pytest.raises(BadModel, match=r"not \(or not whole\) in the cache, .* run 'hf download org/absent'") as caught:
        specs.find("org/absent")
    assert str(cache) in str(caught.value)


def test_a_model_whose_weights_are_not_cached(cache: Path, small_folder: Path) -> None:
    snapshot = put(cache, small_folder, "org/small")
    next((snapshot / "unet").glob("*.safetensors")).unlink()
    spec = specs.find("org/small")
    with pytest.raises(BadModel, match="unet has no diffusion_pytorch_model.safetensors"):
        LoadedModel.load(spec, torch.device("cpu"))
