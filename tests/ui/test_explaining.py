"""What each LoRA did, and the same noise many ways, without a page: verdicts, differences, regions, series."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from composer.masks import Box
from composer.request import AdapterUse, Region, RenderRequest, parse_request
from lora_zoo.world import draw
from lora_zoo.world.scene import Creature, Scene
from pipelines.engine import Engine
from pipelines.jobs.errors import BadJobs
from pipelines.jobs.states import State
from ui import scores, series
from ui.errors import TooMuch
from ui.forms import Chosen, Draft
from ui.service import Service
from ui.tabs import explain

LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    one = Service(Engine(), tmp_path / "data")
    yield one
    one.stop()


def placed(method: str = "regional", **fields: object) -> RenderRequest:
    """Return a request for two characters side by side."""
    uses = (
        AdapterUse(name="zorp", weight=1.0, region=Region(box=LEFT, prompt="zorp in a meadow")),
        AdapterUse(name="krag", weight=1.0, region=Region(box=RIGHT, prompt="krag in a meadow")),
    )
    asked = {"prompt": "zorp and krag, in a meadow", "adapters": uses, "method": method, "num_inference_steps": 2}
    return RenderRequest.model_validate({**asked, **fields})


def test_the_detectors_tell_what_each_lora_does() -> None:
    whole = draw.draw(Scene("meadow", (Creature(character="zorp", held="trident"),)), 1)
    without = draw.draw(Scene("meadow", (Creature(shape="round", colour="green", held="trident"),)), 1)
    found = scores.parts(["zorp", "trident", "moon"], [whole, without, whole, whole], judged=True)
    assert [one.verdict for one in found] == ["present", "present", "vanished"]
    assert "also without it" in found[1].told and found[1].change == 0.0 < found[0].change
    assert scores.parts(["mine"], [whole, without], judged=False)[0].verdict == "not judged"


def test_a_lora_fades_from_present_over_weak_to_vanished() -> None:
    whole = draw.draw(Scene("meadow", (Creature(character="zorp"),)), 1)
    without = draw.draw(Scene("meadow", (Creature(shape="round", colour="green"),)), 1)
    faded = [Image.blend(whole, without, part / 50) for part in range(51)]
    verdicts = [scores.parts(["zorp"], [one, without], judged=True)[0].verdict for one in faded]
    assert list(dict.fromkeys(verdicts)) == ["present", "weak", "vanished"]
    assert verdicts == sorted(verdicts, key=["present", "weak", "vanished"].index)


@pytest.mark.parametrize(
    ("name", "figures", "verdict"),
    [
        ("zorp", ({"character": "zorp"}, {"character": "bolt"}), "present"),
        ("zorp", ({"character": "zorp"}, {"character": "zorp"}), "bleeding"),
        ("striped_vest", ({"character": "zorp", "garment": "striped_vest"}, {"character": "bolt"}), "present"),
        ("striped_vest", ({"character": "zorp", "garment": "striped_vest"},) * 2, "bleeding"),
        ("trident", ({"character": "zorp", "held": "trident"},) * 2, "bleeding"),
        ("trident", ({"character": "zorp"},) * 2, "vanished"),
    ],
)
def test_a_concept_on_both_creatures_bleeds(name: str, figures: tuple[dict[str, str], ...], verdict: str) -> None:
    whole = draw.draw(Scene("meadow", tuple(Creature(**one) for one in figures)), 1)
    without = draw.draw(Scene("meadow", (Creature(shape="round", colour="green"),)), 1)
    (found,) = scores.parts([name], [whole, without], judged=True)
    assert found.verdict == verdict


def test_a_difference_is_black_where_pictures_agree() -> None:
    first, second = Image.new("RGB", (4, 4), "black"), Image.new("RGB", (4, 4), "black")
    second.putpixel((1, 2), (255, 255, 255))
    found = scores.difference(first, second)
    assert (found.getpixel((0, 0)), found.getpixel((1, 2))) == ((0, 0, 0), (255, 255, 255))


def test_series_share_their_noise(service: Service, tmp_path: Path) -> None:
    uses = (AdapterUse(name="zorp"), AdapterUse(name="moon"))
    request = RenderRequest(prompt="zorp", adapters=uses, method="switch", seed=4)
    compared = series.by_methods(service, request, ["merge", "switch", "klora"])
    assert {one.seed for one in compared.asked.requests} == {4}
    assert len(compared.asked.requests) + len(compared.left_out) == 3
    left = series.without_each(request).asked
    assert [[use.name for use in one.adapters] for one in left.requests] == [["zorp", "moon"], ["moon"], ["zorp"], []]
    assert left.requests[-1].method == "merge"
    grid = series.by_axes(request, ("weight:zorp", "0,1"), ("seed", "1..3"), 10).asked
    assert (len(grid.requests), grid.columns, len(grid.rows)) == (6, ("weight:zorp 0", "weight:zorp 1"), 3)
    with pytest.raises(TooMuch, match="make 12 pictures"):
        series.by_axes(request, ("seed", "1..4"), ("weight", "0,1,2"), 10)
    with pytest.raises(BadJobs, match="axes x and y both go over seed"):
        series.by_axes(request, ("seed", "1..3"), ("seed", "1..3"), 10)
    (tmp_path / "jobs.csv").write_text("prompt,loras,count\nzorp,zorp:0.5,3\n")
    assert [one.seed for one in series.of_file(tmp_path / "jobs.csv", 5).requests] == [0, 1, 2]
    with pytest.raises(TooMuch, match="more than 2"):
        series.of_file(tmp_path / "jobs.csv", 2)


def test_a_grid_of_methods_with_parameters() -> None:
    request = parse_request({"method": "switch", "parameters": {"interval": 3}, "adapters": [{"name": "zorp"}]})
    grid = series.by_axes(request, ("method", "switch,switch:interval=1,composite,naive"), None, 10).asked
    assert [(one.method, one.parameters, len(one.adapters)) for one in grid.requests] == [
        ("switch", {"interval": 3}, 1),
        ("switch", {"interval": 1}, 1),
        ("composite", {}, 1),
        ("merge", {}, 0),
    ]
    assert grid.columns[1] == "method switch:interval=1"


def test_a_grid_over_drawn_seeds_shows_which_were_drawn() -> None:
    request = parse_request({"adapters": [{"name": "zorp"}]})
    grid = series.by_axes(request, ("seed", "-1,-1"), ("weight", "0,1"), 10).asked
    seeds = [one.seed for one in grid.requests]
    assert seeds[:2] == seeds[2:] and len(set(seeds)) == 2
    assert grid.columns == tuple(f"seed {seed}" for seed in seeds[:2])


def test_a_file_of_jobs_is_counted_before_it_is_expanded(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "axes: {x: {steps: [1, 2]}, y: {method: ['merge', 'switch:interval=1']}}\njobs: [{count: 10000, loras: [zorp]}]"
    )
    with pytest.raises(TooMuch, match="asks for 40,000 pictures, more than 500"):
        series.of_file(tmp_path / "a.yaml", 500)
    (tmp_path / "b.csv").write_text("prompt;lora;steps;size;seed\nx;'a b';4;64x32;-1\n")
    (one,) = series.of_file(tmp_path / "b.csv", 5).requests
    assert (one.adapters[0].name, one.num_inference_steps, one.width, one.height) == ("a b", 4, 64, 32)
    assert one.seed >= 0


@pytest.mark.parametrize(
    ("box", "figures", "verdict", "told"),
    [
        (LEFT, ("zorp", "bolt"), "present", "it is there"),
        (RIGHT, ("zorp", "bolt"), "bleeding", "belongs on the right"),
        (LEFT, ("zorp", "zorp"), "bleeding", "both creatures"),
        (LEFT, ("bolt", "momo"), "vanished", "nothing of it"),
        ((0.0, 0.0, 1.0, 0.5), ("bolt", "zorp"), "present", "it is there"),  # on no side
    ],
)
def test_a_lora_with_a_region_is_looked_for_there(
    box: tuple[float, float, float, float], figures: tuple[str, str], verdict: str, told: str
) -> None:
    whole = draw.draw(Scene("meadow", tuple(Creature(character=one) for one in figures)), 1)
    other = Creature(shape="round", colour="green")
    without = draw.draw(Scene("meadow", (other, other)), 1)
    (found,) = scores.parts(["zorp"], [whole, without], True, {"zorp": Box(*box)})
    assert found.verdict == verdict and told in found.told


def test_what_changes_outside_a_region_is_told() -> None:
    first, second = Image.new("RGB", (8, 4), "black"), Image.new("RGB", (8, 4), "black")
    for place in ((0, 0), (1, 0), (6, 3), (7, 3)):
        second.putpixel(place, (255, 255, 255))
    (found,) = scores.parts(["mine"], [first, second], False, {"mine": Box(0.0, 0.0, 0.25, 1.0)})
    assert found.outside == 0.5 and "50% of what it changes is outside its region" in found.told
    assert scores.parts(["mine"], [first, first], False, {"mine": Box(*LEFT)})[0].outside is None
    assert scores.parts(["mine"], [first, second], False)[0].outside is None


def test_who_is_left_out_of_a_region_leaves_its_words_there(service: Service) -> None:
    request = placed()
    whole, first, second, none = service.resolve(series.without_each(request).asked.requests)
    assert [use.region for use in first.adapters] == [use.region for use in whole.adapters]
    weights = [[use.weight for use in one.adapters] for one in (whole, first, second, none)]
    assert weights == [[1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]
    assert [use.text_encoder_weight for use in first.adapters] == [0.0, 1.0]
    free = request.adapters[1].model_copy(update={"region": None})
    mixed = series.without_each(request.model_copy(update={"adapters": (request.adapters[0], free)})).asked.requests
    assert [[use.name for use in one.adapters] for one in mixed] == [
        ["zorp", "krag"],
        ["zorp", "krag"],
        ["zorp"],
        ["zorp"],
    ]


@pytest.mark.thorough
def test_a_picture_with_regions_is_explained(service: Service) -> None:
    service.start()
    for method in ("regional", "lora_composer"):
        job = service.submit(series.without_each(placed(method)).asked)
        assert service.wait(job.id, 60).job.state is State.DONE
        kept = service.history.pictures(job.id)
        assert len({one.record.pixels_sha256 for one in kept}) == 4
        table, _ = explain.explained(service, service.history.job(job.id), kept)
        assert table.count("outside its region") == 2


def test_regions_are_told_to_those_methods_that_look_at_them(service: Service) -> None:
    chosen = [Chosen(name="zorp", box=LEFT), Chosen(name="krag", box=RIGHT)]
    request = Draft(chosen=chosen, prompt="zorp and krag", method="merge").request(placed=True)
    asked = series.by_methods(service, request, ["merge", "regional"])
    assert asked.left_out == ()
    regions = [[use.region for use in one.adapters] for one in asked.asked.requests]
    assert regions == [[None, None], [Region(box=LEFT), Region(box=RIGHT)]]
    grid = series.by_axes(request, ("method", "regional,merge"), None, 10).asked.requests
    assert [[use.region for use in one.adapters] for one in grid] == regions[::-1]
