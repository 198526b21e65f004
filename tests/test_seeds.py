"""Seeds of 64 bits, as other tools have them, keep every bit through each door; one that is too large is told once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from composer.errors import BadRequest
from composer.request import RenderRequest, parse_request
from lora_zoo.library import Library
from pipelines import images
from pipelines.cli import main
from pipelines.engine import Engine
from pipelines.jobs.sources import Draft, plain
from ui import restore
from ui.forms import Draft as Fields
from ui.service import Service
from ui.tabs import fields

SEEDS = (2**53 + 1, 2**63, 2**64 - 1)


def other_tools(path: Path, seed: int) -> Path:
    """Write a picture as A1111 writes one."""
    info = PngImagePlugin.PngInfo()
    info.add_text(
        "parameters",
        f"a hill\nSteps: 3, Sampler: DDIM, CFG scale: 4, Seed: {seed}, Size: 64x64",
    )
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_is_the_same_in_the_record_and_on_the_page(seed: int, tmp_path: Path) -> None:
    engine = Engine()
    request = RenderRequest(prompt="a hill", num_inference_steps=1, seed=seed)
    path = tmp_path / "made.png"
    images.save(engine.render(request), path)
    assert images.read_record(path).seed == seed
    restored = restore.restore(path, Library(), ["tiny"])
    assert (restored.request.seed, restored.remarks) == (seed, ())
    service = Service(engine, tmp_path / "data")
    shown = fields.values_of(Fields.from_request(restored.request), service)
    service.history.close()
    assert json.loads(json.dumps(shown[list(Fields.model_fields).index("seed")])) == str(seed)
    shown[list(Fields.model_fields).index("chosen")] = []
    assert fields.draft_of(shown).requests()[0].seed == seed


@pytest.mark.parametrize("seed", SEEDS)
def test_another_tools_seed_is_taken_over_without_a_remark(seed: int, tmp_path: Path) -> None:
    restored = restore.restore(other_tools(tmp_path / "other.png", seed), Library(), ["tiny"])
    assert restored.request.seed == seed
    assert not [remark for remark in restored.remarks if "seed" in remark]


@pytest.mark.parametrize("seed", [-2, 2**64])
def test_a_seed_that_cannot_be_used_is_told_once(seed: int, tmp_path: Path) -> None:
    restored = restore.restore(other_tools(tmp_path / "other.png", seed), Library(), ["tiny"])
    (told,) = [remark for remark in restored.remarks if "seed" in remark]
    assert told == f"seed '{seed}': not a whole number from -1 to {2**64 - 1}; the default is used"
    assert restored.request.seed == 0


def test_different_seeds_beyond_a_browsers_numbers_are_different_pictures() -> None:
    requests = [RenderRequest(prompt="a", num_inference_steps=1, seed=2**53 + offset) for offset in (0, 1)]
    first, second = Engine().render_many(requests)
    assert first.record.pixels_sha256 != second.record.pixels_sha256


def test_a_seed_of_more_bits_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadRequest):
        parse_request({"prompt": "a", "seed": 2**64})
    assert main(["render", "--prompt", "a", "--seed", str(2**64 - 1), "--count", "2", "--dry-run"]) == 2
    assert "seed" in capsys.readouterr().err


def test_jobs_take_them_too() -> None:
    (draft,) = plain(Draft("line 1", {"prompt": "a", "seed": 2**64 - 1}))
    assert draft.data["seed"] == 2**64 - 1
