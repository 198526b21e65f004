"""Where steps lie on the noise schedule, beside diffusers; and what is told where they begin too late."""

from __future__ import annotations

import inspect
import json
import math
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from composer.errors import BadRequest
from composer.request import SPACINGS, AdapterUse, RenderRequest
from pipelines import images, schedulers
from pipelines.cli import main
from pipelines.engine import Engine
from pipelines.metadata import a1111_text, readers
from pipelines.metadata.hashes import FileHashes
from pipelines.schedulers import Span
from pipelines.sources import AdapterInfo, ZooSource
from tests.requests import ask
from ui.forms import Draft

#: The noise schedule of SDXL's own files.
SDXL = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "prediction_type": "epsilon",
}
ZERO_SNR = {**SDXL, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}


def solver(name: str, count: int, **stated: Any) -> schedulers.Solver:
    return schedulers.build(name, {**SDXL, **stated}, Span(count), torch.Generator(), torch.device("cpu"))


def timesteps(name: str, count: int, **stated: Any) -> list[float]:
    return [step.timestep for step in solver(name, count, **stated).steps]


@pytest.mark.parametrize(
    ("spacing", "count", "found"),
    [
        ("trailing", 1, [999]),
        ("trailing", 4, [999, 749, 499, 249]),
        ("leading", 1, [1]),
        ("leading", 4, [751, 501, 251, 1]),
        ("linspace", 4, [999, 666, 333, 0]),
    ],
)
def test_few_steps_of_euler(spacing: str, count: int, found: list[float]) -> None:
    assert timesteps("euler", count, timestep_spacing=spacing) == found


@pytest.mark.parametrize("name", schedulers.names())
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("count", [1, 4, 7, 20])
def test_steps_are_those_of_diffusers(name: str, spacing: str, count: int) -> None:
    spec = schedulers.get(name)
    oracle = getattr(diffusers, spec.class_name).from_config({**SDXL, "timestep_spacing": spacing}, **spec.settings)
    oracle.set_timesteps(count)
    assert timesteps(name, count, timestep_spacing=spacing) == oracle.timesteps.tolist()


@pytest.mark.parametrize("name", schedulers.names())
def test_the_table_says_how_diffusers_spaces_steps(name: str) -> None:
    spec = schedulers.get(name)
    own = inspect.signature(getattr(diffusers, spec.class_name).__init__).parameters["timestep_spacing"].default
    every = {spacing: timesteps(name, 6, timestep_spacing=spacing) for spacing in SPACINGS}
    if spec.spacing is None:  # it makes no difference
        assert every["leading"] == every["trailing"] == every["linspace"]
    else:
        assert spec.spacing == own
        assert every["leading"] != every["trailing"] != every["linspace"]


def test_what_is_asked_for_comes_before_what_the_files_state() -> None:
    assert schedulers.spacing("euler", None, {}) == "linspace"
    assert schedulers.spacing("ddim", None, {}) == "leading"
    assert schedulers.spacing("ddim", None, {"timestep_spacing": "trailing"}) == "trailing"
    assert schedulers.spacing("ddim", "linspace", {"timestep_spacing": "trailing"}) == "linspace"
    assert schedulers.spacing("lcm", None, {"timestep_spacing": "trailing"}) is None
    with pytest.raises(BadRequest, match="leave out the spacing 'trailing'"):
        schedulers.spacing("dpmpp_2m_karras", "trailing", {})
    with pytest.raises(BadRequest, match="space steps as 'odd'"):
        schedulers.spacing("euler", None, {"timestep_spacing": "odd"})


def with_schedule(folder: Path, out: Path, **stated: Any) -> Path:
    """Return a copy of a model whose noise schedule says this."""
    shutil.copytree(folder, out)
    path = out / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **stated}))
    return out


def test_a_spacing_goes_through_request_record_and_file(small_folder: Path, tmp_path: Path) -> None:
    leading = with_schedule(small_folder, tmp_path / "model", timestep_spacing="leading", steps_offset=1)
    engine = Engine()
    own, told, trailing = (
        engine.render(ask(str(leading), scheduler="euler", num_inference_steps=2, spacing=spacing))
        for spacing in (None, "leading", "trailing")
    )
    assert [one.record.spacing for one in (own, told, trailing)] == ["leading", "leading", "trailing"]
    assert own.record.pixels_sha256 == told.record.pixels_sha256 != trailing.record.pixels_sha256
    assert [notice for notice in own.record.notices if "'trailing' keeps them" in notice]
    assert not [notice for notice in trailing.record.notices if "trailing" in notice]
    path = tmp_path / "a.png"
    images.save(trailing, path)
    again = images.read_record(path).request().model_copy(update={"model": trailing.record.model})
    assert engine.render(again).record.pixels_sha256 == trailing.record.pixels_sha256
    assert Draft.from_request(again).further["spacing"] == "trailing"
    assert "spacing" not in Draft.from_request(told.record.request()).further
    found = readers.read({"parameters": a1111_text.write(again, FileHashes())})
    assert found is not None
    assert (found.scheduler, found.spacing) == ("euler", "trailing")


def test_no_notice_where_a_picture_begins_with_one_or_steps_are_many(small_folder: Path, tmp_path: Path) -> None:
    leading = with_schedule(small_folder, tmp_path / "model", timestep_spacing="leading")
    begun = Engine().render(ask(str(leading), scheduler="euler", num_inference_steps=20))
    assert begun.record.notices == ()
    path = tmp_path / "a.png"
    images.save(begun, path)
    start = {"image": str(path), "strength": 0.5}
    assert (
        Engine().render(ask(str(leading), scheduler="euler", num_inference_steps=4, start=start)).record.notices == ()
    )


def test_on_the_command_line(capsys: pytest.CaptureFixture[str], small_folder: Path, tmp_path: Path) -> None:
    def planned(*words: str) -> dict[str, Any]:
        assert main(["render", *words, "--dry-run", "--json"]) == 0
        return json.loads(capsys.readouterr().out)["requests"][0]

    model = ("--model", str(small_folder))
    assert planned("--prompt", "x", *model, "--scheduler", "euler", "--spacing", "trailing")["spacing"] == "trailing"
    assert main(["render", "--prompt", "x", *model, "--scheduler", "lcm", "--spacing", "trailing", "--dry-run"]) == 2
    assert "leave out the spacing" in capsys.readouterr().err
    path = tmp_path / "a.png"
    images.save(Engine().render(ask(str(small_folder), scheduler="euler", spacing="trailing")), path)
    assert planned("--from", str(path), *model)["spacing"] == "trailing"
    assert planned("--from", str(path), *model, "--scheduler", "lcm")["spacing"] is None


@pytest.mark.parametrize("name", schedulers.names())
def test_zero_snr_counts_for_v_prediction_only(name: str) -> None:
    plain, asked = solver(name, 4), solver(name, 4, rescale_betas_zero_snr=True)
    assert [one.sigma for one in plain.steps] == [one.sigma for one in asked.steps]
    velocity = solver(name, 4, rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing")
    assert velocity.steps[0].sigma > 1000.0


def test_a_preview_of_noise_alone_is_the_velocity_turned_round() -> None:
    (step, *_), one = (found := solver("ddim", 4, **{**ZERO_SNR, "timestep_spacing": "trailing"})).steps, found
    assert math.isinf(step.sigma)
    latents, velocity = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(one.estimate(velocity, step, latents), -velocity)
    oracle: Any = DDIMScheduler.from_config({**ZERO_SNR, "timestep_spacing": "trailing", "clip_sample": False})
    oracle.set_timesteps(4)
    theirs = oracle.step(velocity, oracle.timesteps[0], latents).pred_original_sample
    assert torch.equal(theirs, -velocity)


def test_a_model_that_asks_for_zero_snr_without_v_prediction(sd15_folder: Path, tmp_path: Path) -> None:
    folder = with_schedule(sd15_folder, tmp_path / "model", rescale_betas_zero_snr=True, timestep_spacing="trailing")
    done = Engine().render(ask(str(folder), num_inference_steps=2))
    assert numpy.asarray(done.image).std() > 1.0  # and not black
    assert any("(ztsnr)" in notice and "v_prediction" in notice for notice in done.record.notices)
    told = Engine().render(ask(str(folder), num_inference_steps=2, prediction_type="v_prediction"))
    assert not any("ztsnr" in notice for notice in told.record.notices)


class Stating(ZooSource):
    """The zoo, whose LoRAs say how they were trained."""

    def __init__(self, training: dict[str, str]) -> None:
        super().__init__()
        self._training = training

    def describe(self, name: str) -> AdapterInfo:
        from dataclasses import replace

        return replace(super().describe(name), training=self._training)


@pytest.mark.parametrize(
    ("training", "told"),
    [
        ({"ss_zero_terminal_snr": "True"}, "spacing 'trailing'"),
        ({"modelspec.prediction_type": "epsilon"}, "trained to predict epsilon; here v_prediction"),
        ({"modelspec.prediction_type": "v"}, ""),
        ({"ss_zero_terminal_snr": "False"}, ""),
        ({}, ""),
    ],
)
def test_what_a_lora_says_of_its_training_is_proposed(training: dict[str, str], told: str) -> None:
    asked = RenderRequest(prompt="zorp", adapters=(AdapterUse(name="zorp"),))
    notices = Engine(Stating(training)).resolve(asked).notices
    assert [told in notice for notice in notices] == ([True] if told else [])


def test_what_a_file_says_of_its_training_is_read(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = ZooSource().describe("zorp").file
    assert path is not None
    with safe_open(str(path), "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  it is no mapping
        metadata = {**(file.metadata() or {}), "ss_zero_terminal_snr": "True"}
    save_file(tensors, tmp_path / "own.safetensors", metadata)
    info = ZooSource().describe(str(tmp_path / "own.safetensors"))
    assert info.training["ss_zero_terminal_snr"] == "True"
