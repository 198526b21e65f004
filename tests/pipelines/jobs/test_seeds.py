"""A seed of -1: drawn behind every door, told by the record, and kept by a batch that goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from composer.errors import BadRequest
from composer.request import RenderRequest, parse_request
from lora_zoo.library import Library
from pipelines import images
from pipelines.cli import main
from pipelines.engine import Engine
from pipelines.jobs import axes, planning, sources
from pipelines.jobs.ledger import Ledger
from pipelines.jobs.seeds import Seeds
from pipelines.metadata import a1111, matching
from ui.forms import Draft
from ui.rest import Order

_FORMS = {
    "a.jsonl": '{"prompt": "x", "seed": -1}\n{"prompt": "y", "seed": -1}\n{"prompt": "x", "seed": -1}\n',
    "a.csv": "prompt,seed\nx,-1\ny,-1\nx,-1\n",
    "a.yaml": "defaults: {seed: -1}\njobs: [{prompt: x}, {prompt: y}, {prompt: x}]\n",
    "a.txt": "--prompt x --seed -1\n--prompt y --seed -1\n--prompt x --seed -1\n",
}


def drawn(path: Path, salt: str | None) -> list[int]:
    seeds = Seeds(salt)
    found = [one.data["seed"] for draft in sources.read(path).drafts for one in sources.plain(draft, seeds)]
    assert all(isinstance(seed, int) and 0 <= seed < 2**32 for seed in found)
    return [seed for seed in found if isinstance(seed, int)]


@pytest.mark.parametrize("name", _FORMS)
def test_jobs_that_ask_for_any_seed_have_different_ones(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(_FORMS[name])
    found = drawn(tmp_path / name, "salt")
    assert len(set(found)) == 3
    assert drawn(tmp_path / name, "salt") == found
    assert not set(drawn(tmp_path / name, "other")) & set(found)
    assert not set(drawn(tmp_path / name, None)) & set(found)


def test_what_is_drawn_does_not_depend_on_the_place_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(_FORMS["a.csv"])
    (tmp_path / "b.csv").write_text("prompt,seed\nnew,-1\ny,-1\nx,-1\nx,-1\n")
    assert set(drawn(tmp_path / "a.csv", "salt")) < set(drawn(tmp_path / "b.csv", "salt"))


def test_a_count_goes_on_from_the_seed_that_was_drawn() -> None:
    draft = sources.Draft("here", {"seed": -1, "count": 3})
    found = [int(str(one.data["seed"])) for one in sources.plain(draft, Seeds("salt"))]
    assert found == [found[0] + offset for offset in range(3)]


def test_an_axis_of_drawn_seeds_is_the_same_for_all_jobs(engine: Engine, small_folder: Path) -> None:
    drafts = [sources.Draft("here", {"prompt": prompt, "model": str(small_folder)}) for prompt in ("x", "y")]
    found = planning.plan(engine, drafts, [axes.parse("x", "seed=-1,-1,7")], Seeds("salt"))
    by_prompt = {prompt: [one.request.seed for one in found.jobs if one.request.prompt == prompt] for prompt in "xy"}
    assert by_prompt["x"] == by_prompt["y"] and by_prompt["x"][2] == 7
    assert len(set(by_prompt["x"])) == 3
    assert found.grids[0].axes[0].values == tuple(by_prompt["x"])


def test_a_request_holds_the_seed_that_was_drawn() -> None:
    makers: list[Callable[[], int]] = [
        lambda: RenderRequest(seed=-1).seed,
        lambda: parse_request({"seed": "-1"}).seed,
        lambda: RenderRequest().model_copy(update={"seed": -1}).seed,
        lambda: Order.model_validate({"request": {"seed": -1}}).request.seed,
        lambda: Draft.model_validate({"seed": -1}).seed,
    ]
    for made in makers:
        found = [made() for _ in range(8)]
        assert len(set(found)) > 1 and all(0 <= seed < 2**32 for seed in found)
    asked = Draft.model_validate({"seed": -1, "count": 3})
    assert [one.seed for one in asked.requests()] == [asked.seed + offset for offset in range(3)]
    kept = RenderRequest(seed=-1)
    assert parse_request(kept.model_dump()) == kept
    with pytest.raises(BadRequest, match="seed"):
        parse_request({"seed": -2})


def test_a_picture_that_says_any_seed_is_given_one() -> None:
    text = "a cat\nSteps: 4, Sampler: DDIM, CFG scale: 3, Seed: -1, Size: 64x64, Model: tiny"
    found = a1111.read({"parameters": text})
    assert found is not None
    match = matching.match_to(found, Library(), own_model=False, own_loras=False)
    assert 0 <= match.request.seed < 2**32
    assert any(f"{match.request.seed} is drawn here" in remark for remark in match.remarks)
    assert not any("default" in remark for remark in match.remarks)


def test_render_tells_the_seed_that_was_drawn(
    small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["render", "--prompt", "x", "--model", str(small_folder), "--steps", "1", "--seed", "-1", "--count", "2"]
    assert main([*words, "--out", str(tmp_path / "out"), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["images"]
    assert second["seed"] == first["seed"] + 1
    assert images.read_record(Path(first["path"])).seed == first["seed"]


def test_the_same_command_draws_the_same_seeds_again(tmp_path: Path, small_folder: Path) -> None:
    jobs, out = tmp_path / "jobs.csv", tmp_path / "out"
    jobs.write_text(f"prompt,seed,model,steps\nx,-1,{small_folder},1\ny,-1,{small_folder},1\n")
    words = ["batch", str(jobs), "--out", str(out)]
    assert main(words) == 0
    before = sorted(path.name for path in out.glob("*.png"))
    assert main(words) == 0
    assert sorted(path.name for path in out.glob("*.png")) == before and len(before) == 2
    ledger = Ledger(out)
    seeds = [one.request.seed for one in ledger.entries()]
    ledger.close()
    assert [images.read_record(out / name).seed for name in before] == seeds
    other = tmp_path / "other"
    assert main(["batch", str(jobs), "--out", str(other)]) == 0
    assert not {path.name for path in other.glob("*.png")} & set(before)
