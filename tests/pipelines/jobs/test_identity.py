"""The digest that a job is known by: the same for ever for what was asked for before, another when a model changes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from pydantic import Field

from composer.request import RenderRequest, parse_request
from pipelines.engine import Engine
from pipelines.jobs import identity

#: Digests as they were when ledgers were first written, of requests to the embedded model.
_KEPT: list[tuple[dict[str, object], str]] = [
    ({"prompt": "zorp in a meadow"}, "f4e3b9306f3cbb4765f205851219b73c668f3e3f7832981175efcb1829824465"),
    (
        {
            "prompt": "zorp",
            "adapters": [{"name": "zorp", "weight": 0.5, "region": {"box": [0, 0, 0.5, 1]}}],
            "method": "regional",
            "seed": 7,
            "num_inference_steps": 4,
        },
        "500b392106f2f27454c71d89d04297e60aa5d43917cff5d8769f450fe3d01c8d",
    ),
    (
        {
            "prompt": "zorp <lora:trident:0.5>",
            "adapters": [{"name": "zorp", "schedule": {"start": 0.2}}],
            "hires": {"scale": 2},
            "negative_prompt": "x",
        },
        "05cb34780cfdee3ce21dbf61bd2cf9b6a29ce8cde74fc6e0befaf2aed079d195",
    ),
]


@pytest.mark.parametrize(("data", "kept"), _KEPT)
def test_what_was_asked_for_before_is_the_same_job(data: dict[str, object], kept: str) -> None:
    resolved = Engine().resolve(parse_request(data))
    assert identity.digest(resolved, model="f" * 64) == kept


class Later(RenderRequest):
    """A request as a later version may have it."""

    width: int | None = Field(default=None, gt=0)
    mood: str | None = None


def test_a_key_of_a_later_version_counts_where_it_says_something() -> None:
    resolved = Engine().resolve(parse_request(_KEPT[0][0]))
    asked = resolved.request.model_dump()
    found = {
        mood: identity.digest(resolved.__class__(**{**vars(resolved), "request": Later(**asked, mood=mood)}), "f" * 64)
        for mood in (None, "bright", "dark")
    }
    assert found[None] == _KEPT[0][1]
    assert len(set(found.values())) == 3


@pytest.mark.parametrize("keeps", ["nothing", "size", "size and time"])
def test_a_checkpoint_that_was_replaced_has_another_fingerprint(keeps: str, tmp_path: Path, small_folder: Path) -> None:
    model = shutil.copytree(small_folder, tmp_path / "model")
    before = identity.fingerprint(model)
    assert identity.fingerprint(model) == before
    weights = next(model.rglob("*.safetensors"))
    state, data = weights.stat(), bytearray(weights.read_bytes())
    data[-1] ^= 1
    (tmp_path / "new").write_bytes(bytes(data) + (b"x" if keeps == "nothing" else b""))
    if keeps == "size and time":
        os.utime(tmp_path / "new", ns=(state.st_atime_ns, state.st_mtime_ns))
    os.replace(tmp_path / "new", weights)
    assert identity.fingerprint(model) != before
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert identity.fingerprint(model) == before


def test_a_model_of_one_file_and_its_folder_are_told_apart(small_folder: Path, tmp_path: Path) -> None:
    file = shutil.copy(next(small_folder.rglob("*.safetensors")), tmp_path / "one.safetensors")
    alone = identity.fingerprint(Path(file))
    assert alone != identity.fingerprint(tmp_path)
    Path(file).write_bytes(b"other")
    assert identity.fingerprint(Path(file)) != alone
