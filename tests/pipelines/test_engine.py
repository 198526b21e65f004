"""What the engine refuses before any work, what it fills in, what it reports."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from composer.errors import BadParameter, BadRequest, UnknownChoice
from lora_zoo.adapter import Adapter, Layout
from lora_zoo.catalog import entry_for
from lora_zoo.errors import BadFile, UnknownName, ZooError
from lora_zoo.library import Library
from pipelines import specs
from pipelines.engine import Engine
from pipelines.errors import BadModel
from pipelines.model import LoadedModel
from pipelines.pricing import Cost
from pipelines.progress import StepReport
from pipelines.sources import AdapterInfo, ZooSource
from tests.adapters import Kind, Shelf, five, random_adapter
from tests.lora_zoo.index.folders import lora
from tests.requests import ask, told, uses


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
        ({"undesired_strength": 0.5}, BadRequest, "0.5 belongs to undesired words, and there are none"),
        ({"model": "tinny"}, UnknownChoice, "unknown model 'tinny'; did you mean 'tiny'"),
        ({"model": "no/such/folder"}, BadModel, "no model folder 'no/such/folder'"),
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
    with pytest.raises(BadModel, match=r"has no .*safetensors; .*\.bin may be a pickle"):
        LoadedModel.load(specs.find(str(folder)))
    (folder / "unet" / "config.json").write_text("{")
    with pytest.raises(BadModel, match=r"config\.json: not JSON"):
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
    assert told(rendering.record) == ()


def test_unread_ends_of_prompts_are_told_once(engine: Engine, small_folder: Path) -> None:
    long = "a cat on a mat " * 30
    rendering = engine.render(ask(str(small_folder), prompt=long, negative_prompt=long, prompt_syntax="plain"))
    notices = told(rendering.record)
    assert len(notices) == 2
    assert all("did not see this end of it: " in notice and len(notice) < 300 for notice in notices)


def test_the_base_model_needs_no_method(engine: Engine, small_folder: Path) -> None:
    record = engine.render(ask(str(small_folder))).record
    assert (record.method, record.adapters, record.unet_passes) == ("merge", (), 3)
    assert set(record.versions) == {"medley", "torch", "diffusers", "transformers"}
    assert (record.dtype, record.device) == ("float32", "cpu")


def test_an_engine_keeps_its_source_and_another_shares_its_models(small: LoadedModel, small_folder: Path) -> None:
    loaded: list[str] = []

    def load(spec: specs.ModelSpec) -> LoadedModel:
        loaded.append(spec.name)
        return small

    first = Engine(Shelf(five(small.layout)), load=load)
    second = first.with_source(Shelf([]))
    request = ask(str(small_folder), adapters=({"name": "lora0"},))
    with pytest.raises(UnknownName):
        second.resolve(request)
    assert first.render(request).record.adapters[0].name == "lora0"
    assert second.render(ask(str(small_folder))) and len(loaded) == 1
    with pytest.raises(AttributeError):
        first.source = Shelf([])  # pyright: ignore[reportAttributeAccessIssue]


class Vanishing(Shelf):
    """A source whose LoRAs are gone as soon as they are read."""

    def __init__(self, adapters: Iterable[Adapter]) -> None:
        super().__init__(adapters)
        self.gone: set[str] = set()

    def load(self, name: str, layout: Layout) -> Adapter:
        adapter = super().load(name, layout)
        self.gone.add(name)
        return adapter

    def describe(self, name: str) -> AdapterInfo:
        if name in self.gone:
            raise UnknownName("LoRA", name, ())
        return super().describe(name)


def test_a_lora_that_goes_while_its_picture_is_made_does_not_undo_it(small: LoadedModel, small_folder: Path) -> None:
    own = random_adapter("going", small.layout, Kind(2, 1.0), 97)
    engine = Engine(Vanishing([own]), load=lambda spec: small)
    small.store.trim(frozenset())
    rendering = engine.render(ask(str(small_folder), adapters=({"name": "going"},)))
    assert rendering.record.adapters[0].sha256 == own.digest


def test_while_a_model_is_loaded_another_can_be_used(small: LoadedModel, small_folder: Path) -> None:
    loading, may_end = Event(), Event()

    def load(spec: specs.ModelSpec) -> LoadedModel:
        if spec.name == "tiny":
            loading.set()
            assert may_end.wait(100)
        return small

    engine = Engine(Shelf([]), load=load)
    slow = Thread(target=engine.model, args=("tiny",))
    slow.start()
    assert loading.wait(100)
    assert engine.model(str(small_folder)) is small
    may_end.set()
    slow.join()


def test_what_was_described_is_what_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLEY_CACHE", str(tmp_path / "cache"))
    path = lora(tmp_path / "loras" / "a.safetensors", 1)
    library = Library.scanned([path.parent])[0]
    source = ZooSource(library)
    first = source.describe("a")
    lora(path, 2)
    second = source.describe("a")
    assert first.sha256 != second.sha256 == entry_for(path).sha256
    layout = {"unet": {"down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k": (8, 768)}}
    assert source.load("a", layout).digest == second.sha256
    lora(path, 3)
    with pytest.raises(BadFile, match="LoRA 'a': its file is not the one listed"):
        source.load("a", layout)
    assert source.describe("a").sha256 == entry_for(path).sha256
