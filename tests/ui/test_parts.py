"""What the page is made of, without a page: fields to requests and back, words, verdicts, uploads, series."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer import registry
from composer.errors import BadRequest
from composer.request import AdapterUse, Hires, Region, RenderRequest, Schedule, Start
from lora_zoo.errors import ZooError
from lora_zoo.library import Library
from pipelines import images
from pipelines.engine import Engine
from pipelines.images import Rendering
from tests.lora_zoo.test_gate import MALFORMED
from ui import forms, more, restore, uploads, words
from ui.calls import Calls
from ui.errors import NotAllowed, TooMuch
from ui.forms import Chosen, Draft
from ui.history import Kept
from ui.limits import Limits, check_amount
from ui.service import Service
from ui.uploads import Terms

DOT = (  # one white pixel
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def tiny() -> Engine:
    return Engine()


@pytest.fixture(scope="module")
def idle(tiny: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that takes jobs and does none."""
    one = Service(tiny, tmp_path_factory.mktemp("idle"), limits=Limits(waiting=100_000))
    yield one
    one.stop()


@pytest.mark.parametrize("name", registry.names())
def test_every_methods_controls_come_from_its_schema(name: str) -> None:
    made = forms.controls(name, {"no_such": 1})
    assert isinstance(made, dict) and isinstance(made["values"], dict)
    assert set(made["values"]) == {one.name for one in registry.describe(name).parameters}
    draft = Draft(method=name, parameters=made["values"], prompt="x")
    assert registry.create(name, draft.request().parameters) == registry.create(name, {})


def test_fields_become_requests_and_requests_fields() -> None:
    use = AdapterUse(
        name="zorp", weight=0.5, text_encoder_weight=0.2, region=Region(box=(0.0, 0.0, 0.5, 1.0), prompt="a ball")
    )
    request = RenderRequest(prompt="a {red|blue} ball", method="regional", adapters=(use,), seed=5, guidance_scale=3.0)
    draft = Draft.from_request(request, count=3)
    made = draft.requests()
    assert [one.seed for one in made] == [5, 6, 7]
    assert made[0].adapters == (use,)
    assert {Engine().drawn(one).prompt for one in made} <= {"a red ball", "a blue ball"}
    assert draft.model_copy(update={"method": "merge"}).request().adapters[0].region is None
    values = [[], "a", "", "merge", {"values": {"combine": "mean"}}, "tiny", None, "20", "", "", "", 3, False, 1]
    values += [None, {}, {"values": {"undesired": "", "method": "switch"}}]
    read = Draft.of(values)
    assert (read.num_inference_steps, read.guidance_scale, read.parameters) == (20, None, {"combine": "mean"})
    assert (read.start, read.hires, read.further) == (None, None, {})
    with pytest.raises(BadRequest, match="Steps: a whole number is needed, or nothing, not 'many'"):
        Draft.of([*values[:7], "many", *values[8:]])


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_uploads_are_refused_and_leave_nothing(case: str, tiny: Engine, tmp_path: Path) -> None:
    file = tmp_path / "sent.safetensors"
    file.write_bytes(MALFORMED[case][0]())
    with pytest.raises(ZooError) as told:
        uploads.admit(tiny, file, tmp_path / "kept", "tiny", Terms(1 << 20))
    assert str(tmp_path) not in str(told.value)
    assert not (tmp_path / "kept").exists()


def test_uploads_have_a_size_a_kind_and_a_safe_name(tiny: Engine, tmp_path: Path) -> None:
    good = Path("lora_zoo/files/loras/bolt.safetensors").read_bytes()
    named = tmp_path / "<b>x y..safetensors"
    named.write_bytes(good)
    with pytest.raises(TooMuch, match="up to 0 MB"):
        uploads.admit(tiny, named, tmp_path / "kept", "tiny", Terms(1000))
    place, found = uploads.admit(tiny, named, tmp_path / "kept", "tiny", Terms(1 << 30))
    assert place.name == "b_x_y.safetensors" and found.fits
    with pytest.raises(NotAllowed, match="already"):
        uploads.admit(tiny, named, tmp_path / "kept", "tiny", Terms(1 << 30))
    with pytest.raises(NotAllowed, match="pickles"):
        uploads.admit(tiny, tmp_path / "x.ckpt", tmp_path / "kept", "tiny", Terms(1 << 30))


def test_a_picture_is_restored_as_far_as_the_zoo_allows(tiny: Engine, tmp_path: Path) -> None:
    use = AdapterUse(name="zorp", weight=0.4)
    done = tiny.render(RenderRequest(prompt="zorp", adapters=(use,), num_inference_steps=1, seed=9))
    images.save(done, tmp_path / "own.png")
    found = restore.restore(tmp_path / "own.png", Library(), ("tiny",))
    assert (found.request, found.remarks) == (done.record.request(), ())
    gone = done.record.adapters[0].model_copy(update={"name": "gone", "sha256": "0" * 64})
    changed = done.record.adapters[0].model_copy(update={"sha256": "1" * 64})
    record = done.record.model_copy(update={"adapters": (gone, changed), "model": "other"})
    images.save(Rendering(done.image, record), tmp_path / "odd.png")
    found = restore.restore(tmp_path / "odd.png", Library(), ("tiny",))
    assert [one.name for one in found.request.adapters] == ["zorp"]
    assert [word in text for word, text in zip(("'gone'", "another file", "'other'"), found.remarks, strict=True)]


def test_every_field_of_a_request_has_its_place_in_the_page() -> None:
    region = Region(mask=DOT, prompt="a ball")
    schedule = Schedule(start=2, stop=0.75, curve=((0.0, 0.1), (0.00001, 1.0), (5, -0.5)))
    uses = (
        AdapterUse(name="zorp", region=region, blocks={"IN01": 0.25, "MID": 1.0}, schedule=schedule),
        AdapterUse(name="neon", blocks="INALL", schedule=Schedule(start=1)),
        AdapterUse(name="moon", blocks=(1.0, 0.5, 0.0), schedule=Schedule(curve=((0.5, 2.0),))),
    )
    request = RenderRequest(
        prompt="a",
        method="regional",
        adapters=uses,
        undesired="fog",
        undesired_strength=0.5,
        guidance_rescale=0.25,
        prompt_syntax="plain",
        prediction_type="epsilon",
        text_encoder_adapters="first",
        original_size=(64, 32),
        crop_corner=(8, 0),
        target_size=(32, 32),
        start=Start(image=DOT, mask=DOT, strength=0.3),
        hires=Hires(scale=1.5, num_inference_steps=7, upscaler="latent"),
    )
    back = _through_the_page(request)
    assert back.adapters[0].blocks == "IN01:0.25" and back.adapters[2].blocks == "1,0.5,0"
    same = [one.model_copy(update={"blocks": None}) for one in request.adapters]
    assert [one.model_copy(update={"blocks": None}) for one in back.adapters] == same
    plain = {"adapters": (), "parameters": back.parameters}
    assert back.model_copy(update=plain) == request.model_copy(update=plain)
    left = _through_the_page(RenderRequest(prompt="a", method="switch", text_encoder_adapters="first"))
    assert left == RenderRequest(prompt="a", method="switch", parameters=left.parameters)
    assert set(more.FURTHER) < set(RenderRequest.model_fields)


def test_a_record_says_where_when_and_on_what(tiny: Engine) -> None:
    done = tiny.render(RenderRequest(prompt="zorp", adapters=(AdapterUse(name="zorp"),), num_inference_steps=1))
    use = done.record.adapters[0].model_copy(
        update={"region": Region(mask=DOT, prompt="a <b>"), "blocks": {"MID": 0.5}, "schedule": Schedule(start=2)}
    )
    start, hires = Start(image=DOT, strength=0.3, mask=DOT), Hires(scale=1.5)
    record = done.record.model_copy(update={"adapters": (use,), "start": start, "hires": hires})
    told = words.record(Kept("id", "job", 0, record, 1.0, 0.0))
    wanted = ("a painted mask", "“a &lt;b&gt;”", "by block MID:0.5", "in steps 2-", "30% of", "1.5 times as large")
    assert [text for text in wanted if text not in told] == []


def test_fields_that_may_be_left_open_keep_their_kind_and_range() -> None:
    made = more.second_pass(None)
    assert isinstance(made, dict) and isinstance(made["fields"], list)
    by_name = {one["name"]: one for one in made["fields"] if isinstance(one, dict)}
    steps = by_name["num_inference_steps"]
    assert (steps["kind"], steps["minimum"], steps["maximum"], steps["default"]) == ("integer", 1, 1000, None)
    assert by_name["upscaler"]["choices"] == ["pixels", "latent"]


def _through_the_page(request: RenderRequest) -> RenderRequest:
    """Fill the fields with a request, and read them again as a browser sends them."""
    draft = Draft.from_request(request)
    values: dict[str, Any] = {name: getattr(draft, name) for name in Draft.model_fields}
    values["chosen"] = [one.model_dump(mode="json") for one in draft.chosen]
    values["parameters"] = forms.controls(draft.method, draft.parameters)
    values["start"] = more.start_field(draft.start)
    values["hires"] = more.second_pass(draft.hires)
    values["further"] = more.further(draft.further)
    return Draft.of(json.loads(json.dumps(list(values.values())))).request()


@pytest.mark.parametrize(
    ("steps", "curve", "told"),
    [("5", None, "'zorp'.*START-STOP"), (None, "1@", "'zorp'"), ("0-0", None, "'zorp'.*stop"), (None, "1", "POSITION")],
)
def test_wrong_steps_of_a_lora_are_told_with_its_name(steps: str | None, curve: str | None, told: str) -> None:
    with pytest.raises(BadRequest, match=told):
        Draft(chosen=[Chosen(name="zorp", steps=steps, curve=curve)]).request()


def test_no_file_is_opened_because_a_picture_says_so(tiny: Engine, tmp_path: Path) -> None:
    done = tiny.render(RenderRequest(prompt="zorp", adapters=(AdapterUse(name="zorp"),), num_inference_steps=1))
    placed = done.record.adapters[0].model_copy(
        update={"region": Region(mask="/etc/mask.png"), "words": ("mine",), "frequency": 0.5}
    )
    named = {"start": Start(image="/etc/picture.png"), "adapters": (placed,), "method": "regional"}
    images.save(Rendering(done.image, done.record.model_copy(update=named)), tmp_path / "named.png")
    found = restore.restore(tmp_path / "named.png", Library(), ("tiny",))
    assert found.request.start is None and found.request.adapters[0].region is None
    told = " ".join(found.remarks)
    assert all(word in told for word in ("begin with", "its mask", "words were named", "fine detail"))


def test_pictures_that_requests_hold_have_a_limit() -> None:
    held = RenderRequest(prompt="a", start=Start(image=DOT), width=64, height=64, num_inference_steps=1)
    size = len(held.model_dump_json())
    check_amount([held] * 2, Limits(inline=2 * size))
    with pytest.raises(TooMuch, match=f"at least {3 * size:,} characters together"):
        check_amount([held] * 4, Limits(inline=3 * size - 1))


_SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
_JSON = _SCALAR | st.lists(_SCALAR, max_size=3) | st.dictionaries(st.text(max_size=8), _SCALAR, max_size=3)
_KEYS = st.sampled_from([*RenderRequest.model_fields, "methd", ""])


@settings(max_examples=150, deadline=None)
@given(request=st.dictionaries(_KEYS, _JSON, max_size=4), count=st.integers() | _JSON)
def test_whatever_is_sent_the_answer_is_a_job_or_a_message(idle: Service, request: dict[str, Any], count: Any) -> None:
    calls = Calls(idle)
    try:
        assert set(calls.submit(request, count)) == {"job"}
    except ZooError as told:
        assert str(told)
    for act in (calls.job, calls.cancel, calls.search):
        with suppress(ZooError):
            act(str(count))


@settings(max_examples=100, deadline=None)
@given(values=st.lists(_JSON, min_size=17, max_size=17))
def test_whatever_stands_in_the_fields_is_a_request_or_a_mistake(values: list[Any]) -> None:
    with suppress(ZooError):
        Draft.of(values).request()
