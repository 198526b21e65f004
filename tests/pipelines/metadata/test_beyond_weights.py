"""What an A1111 text says beyond weights: LoRAs by block and over steps, a second pass; what is not taken is told."""

from __future__ import annotations

import pytest

from composer.request import Hires, RenderRequest, Schedule
from pipelines.metadata import a1111_text, readers
from pipelines.metadata.found import Found, FoundLora
from pipelines.metadata.hashes import FileHashes

SETTINGS = "Steps: 20, Sampler: Euler, Seed: 1, Size: 512x768"


def read(prompt: str = "a lighthouse", more: str = "") -> Found:
    found = readers.read({"parameters": f"{prompt}\n{SETTINGS}{more}"})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("tag", "lora"),
    [
        ("0.8:lbw=OUTALL", FoundLora("a", 0.8, 0.8, None, "OUTALL")),
        ("0.2:0.8:lbw=1,0,0.5:step=5-20", FoundLora("a", 0.8, 0.2, None, "1,0,0.5", Schedule(start=5, stop=20))),
        ("1:lbw=IN04:start=3", None),
        ("0.5:start=3", FoundLora("a", 0.5, 0.5, None, "", Schedule(start=3))),
        ("0@0,1@0.4", FoundLora("a", 1.0, 0.0, None, "", Schedule(curve=((0.0, 0.0), (0.4, 1.0))))),
    ],
)
def test_loras_by_block_and_over_steps_are_taken(tag: str, lora: FoundLora | None) -> None:
    found = read(f"a lighthouse <lora:a:{tag}>")
    if lora is None:  # a preset that only the tool's own file of presets knows
        assert found.loras == (FoundLora("a", 1.0, 1.0, None, "", Schedule(start=3)),)
        assert found.unresolved == ("'lbw' of LoRA 'a': 'IN04'",)
    else:
        assert (found.loras, found.unresolved) == ((lora,), ())


def test_what_of_a_tag_cannot_be_taken_is_told() -> None:
    found = read("<lora:a:0.5:0.6:8:in=0.5:step=now> <lora:b:lbw=MINE:te=0.1> <lora:c:0.5:stop=0>")
    assert found.loras == (FoundLora("a", 0.6, 0.5), FoundLora("b", 0.1, 0.1), FoundLora("c", 0.5, 0.5))
    told = "\n".join(found.unresolved)
    for part in ("dynamic rank of LoRA 'a': '8'", "'in' of LoRA 'a': '0.5'", "step takes", "'lbw' of LoRA 'b'", "stop"):
        assert part in told
    assert len(found.unresolved) == 5


HIRES = ", Denoising strength: 0.4, Hires upscale: 1.5, Hires steps: 10, Hires upscaler: Latent"
SECOND = Hires(scale=1.5, strength=0.4, num_inference_steps=25, upscaler="latent")


@pytest.mark.parametrize(
    ("more", "hires", "told"),
    [
        (HIRES, SECOND, ""),
        (HIRES.replace(" Hires steps: 10,", ""), SECOND.model_copy(update={"num_inference_steps": 50}), ""),
        (HIRES.replace("Latent", "4x-Sharp"), SECOND.model_copy(update={"upscaler": "pixels"}), "'4x-Sharp'"),
        (HIRES.replace("upscale: 1.5", "resize: 768x1152"), SECOND, ""),
        (HIRES.replace("steps: 10", "steps: 900"), SECOND.model_copy(update={"num_inference_steps": None}), "steps"),
        (HIRES + ", Hires prompt: fog", SECOND, "Hires prompt: 'fog'"),
        (HIRES.replace("upscale: 1.5", "resize: 768x768"), None, "Hires resize: '768x768'"),
        (HIRES.replace("upscale: 1.5", "upscale: 20"), None, "Hires upscale: '20'"),
        (HIRES.replace("strength: 0.4", "strength: 0"), None, "without a strength"),
        (", Denoising strength: 0.4, Mask blur: 4", None, "Denoising strength: '0.4'"),
    ],
    ids=str,
)
def test_a_second_pass_is_taken_as_it_was_done(more: str, hires: Hires | None, told: str) -> None:
    found = read(more=more)
    assert found.hires == hires
    assert told in "\n".join(found.unresolved)
    assert bool(found.unresolved) == bool(told)


def test_a_text_says_how_many_steps_of_a_second_pass_are_done() -> None:
    asked = RenderRequest(
        prompt="x", num_inference_steps=20, scheduler="euler", width=64, height=64, guidance_scale=4, hires=Hires()
    )
    text = a1111_text.write(asked, FileHashes("0123456789", {}))
    assert "Denoising strength: 0.55, Hires upscale: 2, Hires steps: 11, Hires upscaler: Lanczos" in text
