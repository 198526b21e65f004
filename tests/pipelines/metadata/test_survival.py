"""Whatever is asked for survives being written to a picture, in every format, and is read by the others' rules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from composer.record import RenderRecord
from composer.request import Hires
from composer.sharing import shared
from pipelines import images
from pipelines.errors import BadMetadata
from pipelines.images import Rendering
from pipelines.metadata import a1111_text, readers
from pipelines.metadata.carriers import FORMATS, PARAMETERS
from pipelines.metadata.hashes import FileHashes
from tests.composer.test_request import record
from tests.pipelines.metadata.rules import as_a1111, as_civitai
from tests.pipelines.metadata.samples import PIXELS, renderings

NAMES = [one.name for one in FORMATS]
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


def survives(rendering: Rendering, name: str, folder: Path) -> None:
    path = folder / f"a.{name}"
    path.write_bytes(images.encode(rendering, images.format_named(name)))
    assert images.is_picture(path)
    found = images.read(path)
    assert isinstance(found, RenderRecord)
    assert found == shared(rendering.record)
    assert found.request() == shared(rendering.record.request())
    others_read(rendering)


def others_read(rendering: Rendering) -> None:
    """Check what A1111's and CivitAI's rules make of the text, and what our own reader makes of it."""
    text = a1111_text.write(rendering.record, rendering.hashes)
    uses = rendering.record.adapters
    names = a1111_text.safe_names([use.name for use in uses])
    there, here = as_a1111(text), as_civitai(text)
    assert list(there.weights.items()) == [(name, use.weight) for name, use in zip(names, uses, strict=True)]
    positive = {name: use.weight for name, use in zip(names, uses, strict=True) if use.weight and use.weight > 0}
    assert {name: here.weights[name] for name in positive} == pytest.approx(positive)
    hashes = {name: rendering.hashes.adapters[use.name] for name, use in zip(names, uses, strict=True)}
    assert there.hashes == here.hashes == hashes
    for reading in (there, here):
        assert reading.settings["Seed"] == str(rendering.record.seed)
        assert reading.settings["Size"] == f"{rendering.record.width}x{rendering.record.height}"
    own = readers.read({PARAMETERS: text})
    assert own is not None
    asked = rendering.record
    assert (own.steps, own.seed, own.scheduler) == (asked.num_inference_steps, asked.seed, asked.scheduler)
    assert (own.guidance_scale, own.width, own.height) == (asked.guidance_scale, asked.width, asked.height)
    found = [(one.name, one.weight, one.text_encoder_weight, one.hash) for one in own.loras]
    wanted = [(n, u.weight, u.text_encoder_weight, hashes[n]) for n, u in zip(names, uses, strict=True)]
    assert found == wanted, (found, wanted)
    assert what_is_done(own.hires) == what_is_done(asked.hires)


def what_is_done(hires: Hires | None) -> tuple[object, ...] | None:
    """Return what a second pass does: a text says how many steps are done, not of how many."""
    if hires is None or hires.num_inference_steps is None:
        return None
    return hires.scale, hires.strength, hires.upscaler, int(hires.num_inference_steps * hires.strength)


@pytest.mark.thorough
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=300, deadline=None, suppress_health_check=QUIET)
@given(rendering=renderings())
def test_a_request_survives(name: str, rendering: Rendering, tmp_path: Path) -> None:
    survives(rendering, name, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10_000, deadline=None, suppress_health_check=QUIET)
@given(rendering=renderings())
def test_many_requests_survive(name: str, rendering: Rendering, tmp_path: Path) -> None:
    survives(rendering, name, tmp_path)


@settings(max_examples=100, deadline=None)
@given(rendering=renderings(st.text("abc ,.:;()[]|\n", max_size=60)))
def test_plain_prompts_are_read_as_they_were_written(rendering: Rendering) -> None:
    reading = as_a1111(a1111_text.write(rendering.record, rendering.hashes))
    for text, asked in (
        (reading.prompt, rendering.record.prompt),
        (reading.negative_prompt, rendering.record.negative_prompt),
    ):
        assert "\n".join(map(str.strip, text.split("\n"))) == "\n".join(map(str.strip, asked.strip().split("\n")))


@pytest.mark.parametrize("name", NAMES[1:])
def test_the_text_is_where_others_look_for_it(name: str, tmp_path: Path) -> None:
    rendering = Rendering(PIXELS, record(prompt="a 猫"), FileHashes("0123456789", {}))
    path = tmp_path / f"a.{name}"
    images.save(rendering, path)
    with Image.open(path) as image:
        comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert comment.startswith(b"UNICODE\0")
    assert comment[8:].decode("utf-16-be") == a1111_text.write(rendering.record, rendering.hashes)
    assert "Model hash: 0123456789" in comment[8:].decode("utf-16-be")


def test_what_a_jpeg_cannot_hold_is_refused_before_and_after() -> None:
    long = Rendering(PIXELS, record(prompt="x" * 30_000))
    for chosen in FORMATS:
        if chosen.name == "jpeg":
            with pytest.raises(BadMetadata, match="write PNG"):
                images.encode(long, chosen)
            with pytest.raises(BadMetadata, match="write PNG"):
                images.check_room(long.record.request(), chosen)
        else:
            images.check_room(long.record.request(), chosen)
            assert images.encode(long, chosen)


def test_civitais_own_list_is_of_all_loras_or_none() -> None:
    made = record()
    versions = {use.name: 100 + place for place, use in enumerate(made.adapters)}
    text = a1111_text.write(made, FileHashes(versions=versions))
    bare, _, listed = text.partition(", Civitai resources: ")
    assert bare == a1111_text.write(made, FileHashes())
    assert json.loads(listed) == [
        {"type": "lora", "weight": use.weight or 1.0, "modelVersionId": versions[use.name]} for use in made.adapters
    ]
    for rule in (as_a1111, as_civitai):
        with_list, without = rule(text), rule(bare)
        for field in ("weights", "hashes", "prompt", "negative_prompt"):
            assert getattr(with_list, field) == getattr(without, field)
        assert without.settings.items() <= with_list.settings.items()
    assert readers.read({PARAMETERS: text}) == readers.read({PARAMETERS: bare})
    some = FileHashes(versions=dict(list(versions.items())[1:]))
    assert a1111_text.write(made, some) == bare


def test_text_alone_tells_what_it_can() -> None:
    """A site that strips our record leaves the text: nothing in it is lost silently."""
    text = a1111_text.write(record(), FileHashes())
    found = readers.read({PARAMETERS: text})
    assert found is not None
    assert found.tool == "medley"
    assert any(remark.startswith("Composition: ") for remark in found.unresolved)


@pytest.mark.parametrize("prompt", ["<0:", "a <b:c", "x <lora:y", "<a:b> <c:"])
def test_a_tag_that_nothing_closes_swallows_no_lora(prompt: str) -> None:
    made = record(prompt=prompt)
    weights = as_a1111(a1111_text.write(made, FileHashes("0123456789", {}))).weights
    assert list(weights) == a1111_text.safe_names([use.name for use in made.adapters])
