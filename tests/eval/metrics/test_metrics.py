"""Metrics on drawings: the scene says what is in them, and what was taken out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import alexnet

from composer.errors import UnknownChoice
from eval import sanity, suites
from eval.bench import FOUND
from eval.errors import BadMetric
from eval.measuring import chosen
from eval.metrics import registry
from eval.metrics.batch import Batch, Made, Shot, Tools, drawings, shown
from eval.metrics.registry import Found
from eval.running import Overrides, Run, Wish
from lora_zoo.detectors import anywhere
from lora_zoo.world.draw import draw
from lora_zoo.world.scene import concept_names, sample_any
from lora_zoo.world.vocabulary import CONCEPTS


@pytest.fixture(scope="module")
def tools() -> Tools:
    return Tools()


def of(metric: str, shots: list[Shot], tools: Tools) -> list[Found]:
    found = registry.get(metric).answer(Batch(shots, tools))
    return [one for one in found if one is not None]


@pytest.mark.parametrize("name", suites.EMBEDDED)
def test_every_metric_ranks_the_truth_first_and_names_what_is_missing(name: str, tools: Tools) -> None:
    found = sanity.run(suites.load(name), 4, tools)
    assert found.sound, [line for line in found.lines if not line.first]
    assert found.agreement >= 0.98
    by_name = {line.measure: line for line in found.lines}
    assert by_name["present"].named is not None and by_name["present"].named >= 0.95
    assert by_name["clipscore"].named is not None and (name == "duet" or by_name["clipscore"].named >= 0.7)
    assert ("side" in by_name) == (name == "duet")


def test_presence_agrees_with_scenes_that_it_was_not_asked_about(tools: Tools) -> None:
    rng = Random("presence checked")
    scenes = [sample_any(rng, 0.6) for _ in range(100)]
    scores = tools.detectors.scores([draw(scene, rng.getrandbits(31)) for scene in scenes])
    answers = [
        (anywhere(some, one.name) >= FOUND) == (one.name in concept_names(scene))
        for scene, some in zip(scenes, scores, strict=True)
        for one in CONCEPTS
    ]
    assert sum(answers) / len(answers) >= 0.99


def test_sides_tell_exchanged_characters_from_missing_ones(tools: Tools) -> None:
    case = suites.load("duet").cases(1)[0]
    scene = case.set.scene
    assert scene is not None
    turned = draw(replace(scene, creatures=tuple(reversed(scene.creatures))), 5)
    twice = draw(replace(scene, creatures=(scene.creatures[0], scene.creatures[0])), 5)
    right, exchanged, doubled = of("sides", [Shot(case, "x", one) for one in (shown(case), turned, twice)], tools)
    assert dict(right.values) == {"side": 1.0, "bleeding": 0.0, "apart": 1.0}
    assert dict(exchanged.values) == {"side": 0.0, "bleeding": 1.0, "apart": 0.0}
    assert dict(doubled.values) == {"side": 0.5, "bleeding": 0.5, "apart": 0.0}
    present = of("presence", [Shot(case, "x", one) for one in (turned, twice)], tools)
    assert [one.values["present"] for one in present] == [1.0, 0.5]


def test_kept_is_not_asked_where_nothing_else_is_named(tools: Tools) -> None:
    cases = suites.load("compos").cases()
    full = next(case for case in cases if case.set.size == 5)
    placed = next(case for case in cases if case.set.size == 2 and case.set.members[1].category != "background")
    answers = registry.get("kept").answer(Batch([Shot(case, "x", shown(case)) for case in (full, placed)], tools))
    assert answers[0] is None
    assert answers[1] is not None and list(answers[1].parts) == [f"place.{placed.set.scene.place}"]  # type: ignore[union-attr]


def test_distances_are_least_to_the_truth_itself(tools: Tools) -> None:
    case = suites.load("compos").cases(1)[0]
    same, other = drawings(case)[3], Image.new("RGB", (64, 64), "grey")
    for metric, measure, perfect in (("pixels", "psnr", 100.0), ("features", "feature_distance", 0.0)):
        exact, far = of(metric, [Shot(case, "x", same), Shot(case, "x", other)], tools)
        assert exact.values[measure] == pytest.approx(perfect, abs=1e-3)
        assert abs(far.values[measure] - perfect) > 1
    assert of("clip_truth", [Shot(case, "x", same)], tools)[0].values["clip_truth"] == pytest.approx(100, abs=1e-3)


def test_cost_is_what_was_noted(tools: Tools) -> None:
    case = suites.load("compos").cases(1)[0]
    drawn, made = Shot(case, "x", shown(case)), Shot(case, "x", shown(case), Made(20, 5, 40, 1.5, 7, 3))
    nothing, found = registry.get("cost").answer(Batch([drawn, made], tools))
    assert nothing is None and found is not None
    told = {"passes": 20, "shallow_passes": 5, "looks": 7, "slopes": 3, "rows": 40, "seconds": 1.5}
    assert dict(found.values) == told


def test_a_metric_that_a_suite_does_not_allow_is_an_error(tools: Tools) -> None:
    wish = Wish(suite="compos", mapped=None, sets=1, seeds=1, methods=("merge",), overrides=Overrides(), clip=None)
    suite = suites.load("compos")
    run = Run(Path(), wish, suite, (), suite.cases(1))
    with pytest.raises(BadMetric, match="'sides' needs sides"):
        chosen(run, ["sides"])
    with pytest.raises(UnknownChoice, match="did you mean 'clipscore'"):
        chosen(run, ["clipscor"])
    with pytest.raises(BadMetric, match="--references"):
        chosen(run, ["clip_reference"])
    assert {one.name for one in chosen(run, [])} >= {"presence", "clipscore", "cost"}


def test_lpips_without_its_weights_is_an_error(tools: Tools, monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    case = suites.load("compos").cases(1)[0]
    with pytest.raises(BadMetric, match="needs (torchmetrics|AlexNet)"):
        of("lpips", [Shot(case, "x", shown(case))], tools)


@pytest.mark.thorough  # a network of 244 MB is made and written
def test_lpips_is_least_to_the_truth_itself(tools: Tools, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On weights by chance under torchmetrics' own: distances need no training to be distances."""
    pytest.importorskip("torchmetrics")
    torch.manual_seed(0)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(alexnet(weights=None).state_dict(), tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    case = suites.load("compos").cases(1)[0]
    same, other = drawings(case)[3], Image.new("RGB", (64, 64), "grey")
    exact, far = of("lpips", [Shot(case, "x", same), Shot(case, "x", other)], tools)
    assert exact.values["lpips"] == pytest.approx(0, abs=1e-6) and far.values["lpips"] > 1e-4


def test_an_unknown_clip_is_told() -> None:
    with pytest.raises(UnknownChoice, match="did you mean 'ViT-B-16'"):
        _ = Tools("ViT-B16:openai").clip
    with pytest.raises(UnknownChoice, match="unknown weights of CLIP ViT-B-16 'opanai'; did you mean 'openai'"):
        _ = Tools("ViT-B-16:opanai").clip


@pytest.fixture
def dino(tmp_path: Path) -> str:
    """Return timm's smallest vision transformer with weights by chance in a file."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "dino.safetensors")
    return f"test_vit:{tmp_path / 'dino.safetensors'}"


def test_dino_is_greatest_to_what_is_the_same(dino: str) -> None:
    case = suites.load("compos").cases(1)[0]
    same, other = drawings(case)[3], Image.new("RGB", (64, 64), "grey")
    names = [one.name for one in case.set.members]
    tools = Tools(references={name: [same] for name in names}, dino=dino)
    for metric in ("dino_truth", "dino_reference"):
        exact, far = of(metric, [Shot(case, "x", same), Shot(case, "x", other)], tools)
        assert exact.values[metric] == pytest.approx(100, abs=1e-3) and far.values[metric] < 99.9
    assert list(exact.parts) == names
    views = tools.dino.images([same, other])
    assert views.norm(dim=1).tolist() == pytest.approx([1, 1])


def test_dino_is_asked_only_where_one_is_named(tmp_path: Path, dino: str) -> None:
    suite = suites.load("compos")
    wish = Wish(suite="compos", mapped=None, sets=1, seeds=1, methods=("merge",), overrides=Overrides(), clip=None)
    run = Run(Path(), wish, suite, (), suite.cases(1))
    assert not {one.name for one in chosen(run, [])} & {"dino_truth", "dino_reference"}
    with pytest.raises(BadMetric, match=r"'dino_truth' needs a DINO \(--dino\)"):
        chosen(run, ["dino_truth"])
    named = replace(run, wish=wish.model_copy(update={"dino": dino}))
    assert "dino_truth" in {one.name for one in chosen(named, [])}
    with pytest.raises(UnknownChoice, match="did you mean 'vit_small_patch16_224.dino'"):
        _ = Tools(dino="vit_small_patch16_224.dimo").dino
    with pytest.raises(BadMetric, match="must be a safetensors file"):
        _ = Tools(dino="test_vit:weights.pth").dino
    with pytest.raises(BadMetric, match="does not hold the weights of this DINO"):
        _ = Tools(dino=dino.replace("test_vit:", "test_vit2:")).dino


def test_a_metric_defined_again_takes_its_own_place(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {one.name: one for one in registry.every()}
    monkeypatch.setattr(registry, "_metrics", dict(before))  # the others' list stays as it is
    measure = registry.Measure("mine_of_a_notebook", "Mine", "", "higher", "nothing")

    def cell() -> registry.Answer:
        def mine(_batch: Batch) -> list[registry.Found | None]:
            return []

        return registry.metric("mine_of_a_notebook", measure, by="my notebook")(mine)

    first, second = cell(), cell()
    assert registry.get("mine_of_a_notebook").answer is second is not first
    with pytest.raises(ValueError, match="two metrics are called 'mine_of_a_notebook'"):
        registry.metric("mine_of_a_notebook", measure, by="my notebook")(lambda _batch: [])
    with pytest.raises(ValueError, match="have the measures"):
        registry.metric("another", measure, by="my notebook")(lambda _batch: [])
