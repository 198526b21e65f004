"""Pictures that begin with a picture, masks and second passes: against diffusers' pipelines, and what stays stays."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import StableDiffusionImg2ImgPipeline
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_inpaint import StableDiffusionInpaintPipeline
from PIL import Image

from composer import registry
from composer.errors import BadRequest
from composer.request import Hires, RenderRequest, Start
from pipelines import images, schedulers
from pipelines.engine import Engine
from pipelines.model import LoadedModel
from pipelines.progress import StepReport
from tests.requests import ask, close, final_latents, for_method, uses

METHODS = registry.names()
SIDE = 64


def inline(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def picture(side: int = SIDE, seed: int = 0) -> Image.Image:
    """Return coloured patches, as smooth as latents are coarse."""
    drawn = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(drawn).resize((side, side), Image.Resampling.BICUBIC)


def half(side: int = SIDE) -> Image.Image:
    """Return a mask whose right half is painted."""
    mask = Image.new("L", (side, side))
    mask.paste(255, (side // 2, 0, side, side))
    return mask


GIVEN, MASK = inline(picture()), inline(half())


def theirs(kind: Any, folder: Path, scheduler: str, request: RenderRequest, **more: Any) -> Any:
    """Return what diffusers' pipeline makes, latents or a picture, as it is asked."""
    stock: Any = StableDiffusionPipeline.from_pretrained(str(folder), safety_checker=None)
    pipe: Any = kind(**stock.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    spec = schedulers.get(scheduler)
    pipe.scheduler = getattr(diffusers, spec.class_name).from_config(pipe.scheduler.config, **spec.settings)
    asked = {
        "generator": torch.Generator("cpu").manual_seed(request.seed),
        "num_inference_steps": request.num_inference_steps,
        **more,
    }
    return pipe(request.prompt, guidance_scale=request.guidance_scale, **asked).images


@pytest.mark.sampled(3)
@pytest.mark.parametrize("scheduler", schedulers.names())
def test_img2img_is_that_of_diffusers(scheduler: str, sd15_engine: Engine, sd15_folder: Path) -> None:
    start = Start(image=GIVEN, strength=0.6)
    request = ask(str(sd15_folder), start=start, scheduler=scheduler, num_inference_steps=6)
    wanted = theirs(
        StableDiffusionImg2ImgPipeline,
        sd15_folder,
        scheduler,
        request,
        image=picture(),
        strength=0.6,
        output_type="latent",
    )
    assert close(final_latents(sd15_engine, [request])[0], wanted)
    record = sd15_engine.render(request).record
    assert (record.unet_passes, sd15_engine.dry_run(request).unet_passes) == (3, 3)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("strength", [0.6, 1.0])
@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpmpp_2m"])
def test_inpainting_is_that_of_diffusers(
    scheduler: str, strength: float, sd15_engine: Engine, sd15_folder: Path
) -> None:
    start = Start(image=GIVEN, strength=strength, mask=MASK)
    request = ask(str(sd15_folder), start=start, scheduler=scheduler, num_inference_steps=4)
    more = {"image": picture(), "mask_image": half(), "strength": strength, "height": SIDE, "width": SIDE}
    kind = StableDiffusionInpaintPipeline
    wanted = theirs(kind, sd15_folder, scheduler, request, **more, output_type="latent")
    assert close(final_latents(sd15_engine, [request])[0], wanted)


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_what_the_mask_keeps(name: str, engine: Engine, small_folder: Path) -> None:
    given, mask = picture(16), half(16)
    start = Start(image=inline(given), strength=0.7, mask=inline(mask))
    request = for_method(name, str(small_folder), start=start)
    rendering = engine.render(request)
    found, before = np.asarray(rendering.image), np.asarray(given)
    assert (found[:, :8] == before[:, :8]).all()
    assert (found[:, 8:] != before[:, 8:]).any()
    again = engine.render(rendering.record.request())
    assert again.record.pixels_sha256 == rendering.record.pixels_sha256
    other = engine.render(request.model_copy(update={"adapters": tuple(reversed(request.adapters))[:1]}))
    assert other.record.pixels_sha256 != rendering.record.pixels_sha256


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_second_pass(name: str, engine: Engine, small_folder: Path) -> None:
    hires = Hires(scale=1.5, strength=0.7, num_inference_steps=4, upscaler="latent")
    request = for_method(name, str(small_folder), hires=hires)
    seen: list[tuple[int, int, int]] = []

    def watch(report: StepReport) -> None:
        (one,) = report.pictures
        seen.append((report.index, one.index, one.count))

    rendering = engine.render(request, watch)
    assert rendering.image.size == (24, 24)
    assert seen == [(index, index, 5) for index in range(5)]  # three steps, and two of four
    cost = engine.dry_run(request)
    assert (rendering.record.unet_passes, rendering.record.unet_calls) == (cost.unet_passes, cost.unet_calls)
    again = engine.render(rendering.record.request())
    assert again.record.pixels_sha256 == rendering.record.pixels_sha256


def test_strength_0_is_the_round_trip_through_the_autoencoder(
    sd15_engine: Engine, sd15: LoadedModel, sd15_folder: Path
) -> None:
    request = ask(str(sd15_folder), start=Start(image=GIVEN, strength=0.0), adapters=uses(2))
    rendering = sd15_engine.render(request)
    with torch.no_grad():
        latents = sd15.encode_image(picture(), torch.Generator("cpu").manual_seed(request.seed))
        wanted = sd15.decode(latents).image
    assert rendering.image == wanted
    assert rendering.record.unet_passes == sd15_engine.dry_run(request).unet_passes == 0


@pytest.mark.thorough
@pytest.mark.parametrize("upscaler", ["pixels", "latent"])
def test_a_second_pass_is_img2img_on_the_picture_enlarged(
    upscaler: str, sd15_engine: Engine, sd15_folder: Path
) -> None:
    hires = Hires.model_validate({"scale": 2.0, "strength": 0.5, "upscaler": upscaler})
    request = ask(str(sd15_folder), num_inference_steps=4)
    found = final_latents(sd15_engine, [request.model_copy(update={"hires": hires})])[0]
    generator = torch.Generator("cpu").manual_seed(request.seed)
    kind = StableDiffusionPipeline
    first = {"generator": generator, "width": SIDE, "height": SIDE}
    if upscaler == "pixels":
        image = theirs(kind, sd15_folder, "ddim", request, **first)[0]
        larger: Any = image.resize((2 * SIDE, 2 * SIDE), Image.Resampling.LANCZOS)
    else:
        latents = theirs(kind, sd15_folder, "ddim", request, **first, output_type="latent")
        larger = torch.nn.functional.interpolate(latents, scale_factor=2, mode="bilinear")
    wanted = theirs(
        StableDiffusionImg2ImgPipeline,
        sd15_folder,
        "ddim",
        request,
        image=larger,
        strength=0.5,
        generator=generator,
        output_type="latent",
    )
    assert found.shape[-2:] == (2 * SIDE // 8, 2 * SIDE // 8)
    assert float((found - wanted).abs().max()) <= 1e-4 * float(wanted.abs().max())


def test_pictures_that_begin_differently_share_calls(sd15_engine: Engine, sd15_folder: Path) -> None:
    plain = ask(str(sd15_folder), adapters=uses(2), method="switch")
    begun = plain.model_copy(update={"start": Start(image=GIVEN, strength=0.7)})
    larger = plain.model_copy(update={"hires": Hires(scale=2.0, strength=0.4)})
    together = final_latents(sd15_engine, [plain, begun, larger])
    for one, request in zip(together, (plain, begun, larger), strict=True):
        assert close(one, final_latents(sd15_engine, [request])[0])


def test_the_record_repeats_the_picture_and_refuses_another_one(
    engine: Engine, small_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "given.png"
    picture(16).save(file)
    request = ask(str(small_folder), start=Start(image=str(file), strength=0.5), hires=Hires(scale=2.0))
    rendering = engine.render(request)
    images.save(rendering, tmp_path / "made.png")
    with Image.open(tmp_path / "made.png") as made:
        told = made.text["parameters"]  # type: ignore[attr-defined]
    assert "Denoising strength: 0.5" in told
    assert "Hires upscale: 2" in told
    record = images.read_record(tmp_path / "made.png")
    assert (record.model, record.start and record.start.image) == (small_folder.name, file.name)  # and no path
    again = request.model_copy(update={"start": record.start and record.start.model_copy(update={"image": str(file)})})
    assert engine.render(again).record.pixels_sha256 == rendering.record.pixels_sha256
    picture(16, seed=1).save(file)
    with pytest.raises(BadRequest, match="not the one asked for"):
        engine.render(again)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"start": Start(image="nowhere.png")}, "nowhere.png"),
        ({"start": Start(image="data:image/png;base64,AAAA")}, "cannot read the picture to begin with of the request"),
        ({"start": Start(image=inline(Image.new("RGB", (17, 16))))}, "width 17 is not a multiple"),
        ({"start": Start(image=inline(Image.new("RGB", (32, 16)))), "width": 16, "height": 16}, "32x16"),
        (
            {"start": Start(image=inline(picture(16)), mask=inline(Image.new("L", (16, 16))))},
            "mask of the request is b",
        ),
        ({"start": Start(image=inline(picture(16)), strength=0.2)}, "at least 0.333"),
        ({"hires": Hires(scale=1.3)}, "try a scale of 1.25"),
        ({"hires": Hires(), "start": Start(image=inline(picture(16)), mask=inline(half(16)))}, "leave out one"),
    ],
)
def test_mistakes_are_told_before_any_work(
    fields: dict[str, Any], told: str, engine: Engine, small_folder: Path
) -> None:
    with pytest.raises(BadRequest) as raised:
        engine.resolve(ask(str(small_folder), **fields))
    assert told in str(raised.value)
