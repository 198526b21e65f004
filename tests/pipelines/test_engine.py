"""What the engine refuses before any work, what it fills in, what it reports."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from composer.errors import BadParameter, BadRequest, UnknownChoice
from lora_zoo.errors import UnknownName, ZooError
from pipelines import specs
from pipelines.engine import Engine
from pipelines.errors import BadModel
from pipelines.model import LoadedModel
from pipelines.pricing import Cost
from pipelines.progress import StepReport
from pipelines.sources import AdapterInfo
from tests.adapters import Shelf, five
from tests.requests import ask, uses


@pytest.fixture
def idle(small: LoadedModel) -> Engine:
    """An engine that must not load a model."""

    def load(_spec: specs.ModelSpec) -> LoadedModel:
        raise AssertionError("a model was loaded")

    return Engine(Shelf(five(small.layout)), load=load)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"method": "composit"}, UnknownChoice, "unknown method 'composit'; did you mean 'composite'"),
        ({"method": "switch"}, BadRequest, "'switch' needs at least 1 LoRA"),
        ({"parameters": {"combin": "sum"}}, BadParameter, "did you mean 'combine'"),
        ({"scheduler": "eular"}, UnknownChoice, "unknown scheduler 'eular'; did you mean 'euler'"),
        ({"scheduler": "lcm", "num_inference_steps": 51}, BadRequest, "'lcm' takes at most 50 steps, not 51"),
        ({"adapters": ({"name": "lora9"},)}, UnknownName, "unknown LoRA 'lora9'; did you mean"),
        ({"width": 19}, BadRequest, "width 19 is not a multiple of 2.*try 20"),
        ({"height": 1}, BadRequest, "height 1 is not a multiple of 2.*try 2"),
        ({"model": "tinny"}, UnknownChoice, "unknown model 'tinny'; did you mean 'tiny'"),
        ({"model": "no/such/folder"}, BadModel, "no model folder no/such/folder"),
    ],
    ids=str,
)
def test_mistakes_are_found_before_any_work(
    fields: dict[str, Any], error: type[ZooError], message: str, idle: Engine, small_folder: Path
) -> None:
    request = ask(**{"model": str(small_folder), **fields})
    for act in (idle.resolve, idle.dry_run, idle.render):
        with pytest.raises(error, match=message):
            act(request)


def test_requests_rendered_together_share_a_model(idle: Engine, small_folder: Path, sd15_folder: Path) -> None:
    with pytest.raises(BadRequest, match="must share a model"):
        idle.render_many([ask(str(small_folder)), ask(str(sd15_folder))])
    assert idle.render_many([]) == []
    assert idle.dry_run_many([]) == Cost(0, 0, 0)


def test_nothing_is_left_open(idle: Engine, small_folder: Path) -> None:
    request = ask(
        str(small_folder),
        method="switch",
        num_inference_steps=None,
        guidance_scale=None,
        adapters=({"name": "lora1"}, {"name": "lora2", "weight": 0.5}, {"name": "lora3", "text_encoder_weight": 0.1}),
    )
    filled = idle.resolve(request).request
    assert None not in filled.model_dump(exclude={"start", "hires"}).values()  # of these, None is none
    assert (filled.width, filled.height, filled.num_inference_steps) == (16, 16, 30)
    assert (filled.guidance_scale, filled.scheduler, filled.text_encoder_adapters) == (7.5, "ddim", "first")
    assert filled.parameters == {"interval": 5, "legacy_offset": False}
    assert [(use.weight, use.text_encoder_weight) for use in filled.adapters] == [(1, 1), (0.5, 0.5), (1, 0.1)]
    assert idle.resolve(filled).request == filled


def test_families_must_match(small: LoadedModel, sd15_folder: Path, tmp_path: Path) -> None:
    class Labelled(Shelf):
        def describe(self, name: str) -> AdapterInfo:
            return AdapterInfo(name, "0" * 64, "sdxl", 1.0)

    folder = shutil.copytree(sd15_folder, tmp_path / "real")
    config = json.loads((folder / "unet" / "config.json").read_text())
    (folder / "unet" / "config.json").write_text(json.dumps({**config, "cross_attention_dim": 768}))
    assert specs.find(str(folder)).family == "sd15"
    with pytest.raises(BadRequest, match="'a' is made for sdxl; model .* is sd15"):
        Engine(Labelled()).resolve(ask(str(folder), adapters=({"name": "a"},)))


@pytest.mark.parametrize("part", ["unet", "tokenizer"])
def test_folders_that_are_no_models(part: str, small_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(small_folder, tmp_path / "model")
    shutil.rmtree(folder / part)
    with pytest.raises(BadModel, match=f"lacks {part}"):
        specs.find(str(folder))


def test_folders_with_damaged_files(small_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(small_folder, tmp_path / "model")
    (folder / "text_encoder_2").mkdir()
    with pytest.raises(BadModel, match="SDXL's architecture; it lacks tokenizer_2"):
        specs.find(str(folder))
    (folder / "text_encoder_2").rmdir()
    weights = next((folder / "unet").glob("*.safetensors"))
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(BadModel, match="cannot load model"):
        LoadedModel.load(specs.find(str(folder)))
    (folder / "unet" / "config.json").write_text("{")
    with pytest.raises(BadModel, match=r"cannot read .*config\.json"):
        specs.find(str(folder))


def test_what_a_dry_run_counts(idle: Engine, small_folder: Path) -> None:
    model = str(small_folder)
    steps = {"num_inference_steps": 10}
    assert idle.dry_run(ask(model, **steps)) == Cost(10, 20, 10)
    assert idle.dry_run(ask(model, method="composite", adapters=uses(5), **steps)) == Cost(50, 100, 10)
    assert idle.dry_run(ask(model, method="switch", adapters=uses(5), guidance_scale=1, **steps)) == Cost(10, 10, 10)
    both = [ask(model, **steps), ask(model, num_inference_steps=4, width=20)]
    assert idle.dry_run_many(both) == Cost(14, 28, 14)
    assert idle.dry_run_many([ask(model, **steps)] * 9) == Cost(90, 180, 20)


def test_a_model_is_loaded_once(small: LoadedModel, small_folder: Path) -> None:
    loads: list[str] = []

    def load(spec: specs.ModelSpec) -> LoadedModel:
        loads.append(spec.name)
        return small

    engine = Engine(Shelf(), load=load)
    for _ in range(2):
        engine.render(ask(str(small_folder), num_inference_steps=1))
    assert loads == [str(small_folder)]


def test_progress_is_told(engine: Engine, small_folder: Path) -> None:
    reports: list[StepReport] = []
    requests = [ask(str(small_folder)), ask(str(small_folder), num_inference_steps=5)]
    engine.render_many(requests, reports.append)
    assert [(report.index, report.count) for report in reports] == [(n, 5) for n in range(5)]
    assert [len(report.pictures) for report in reports] == [2, 2, 2, 1, 1]
    last = reports[-1].pictures[0]
    assert (last.position, last.index, last.count, last.latents.shape) == (1, 4, 5, (1, 4, 8, 8))
    preview = last.preview()
    assert (preview.size, preview.mode) == ((8, 8), "RGB")


def test_pictures_have_the_size_asked_for(engine: Engine, small_folder: Path) -> None:
    rendering = engine.render(ask(str(small_folder), width=24, height=12))
    assert rendering.image.size == (24, 12)
    assert rendering.record.notices == ()


def test_unread_ends_of_prompts_are_told_once(engine: Engine, small_folder: Path) -> None:
    long = "a cat on a mat " * 30
    rendering = engine.render(ask(str(small_folder), prompt=long, negative_prompt=long, prompt_syntax="plain"))
    assert len(rendering.record.notices) == 2
    assert all("did not see this end of it: " in notice and len(notice) < 300 for notice in rendering.record.notices)


def test_the_base_model_needs_no_method(engine: Engine, small_folder: Path) -> None:
    record = engine.render(ask(str(small_folder))).record
    assert (record.method, record.adapters, record.unet_passes) == ("merge", (), 3)
    assert set(record.versions) == {"medley", "torch", "diffusers", "transformers"}
    assert (record.dtype, record.device) == ("float32", "cpu")
