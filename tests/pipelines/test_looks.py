"""What a plan may see and do between steps: cross-attention, and gradients of it. Checked by a method of this file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention as DiffusersAttention
from torch import Tensor, nn

from composer.errors import BadRequest
from composer.plan import MAIN, Attention, BeforeStep, Job, Look, Pass, Plan, Prediction, Prompt, Step, weighted_mean
from composer.registry import MethodModel
from pipelines import batch, prompts
from pipelines.attention import RowWish
from pipelines.engine import Engine
from pipelines.images import Rendering
from pipelines.model import LoadedModel
from pipelines.pricing import price
from pipelines.progress import Cancel
from pipelines.reading import Conditioning
from pipelines.text import Context
from tests.requests import ask, uses

Seen = Callable[[Sequence[Prediction]], None]
WIDE: dict[str, Any] = {"width": 24, "height": 12}  # latents of 6 x 12


@dataclass(frozen=True)
class Tools:
    """What a method of this file does in a step."""

    before: BeforeStep | None = None
    seen: Seen = lambda predictions: None
    captures: bool = True


class Probe(MethodModel):
    """Composite, with tools."""

    def start(self, job: Job) -> Plan:
        tools = TOOLS[0]
        everyone = [Pass({use.name: use.weight}, capture=tools.captures) for use in job.adapters]

        def combine(step: Step, passes: Sequence[Pass], predictions: Sequence[Prediction]) -> Prediction:
            tools.seen(predictions)
            return weighted_mean(step, passes, predictions)

        looks = (lambda _step: len(everyone)) if tools.before else (lambda _step: 0)
        return Plan(lambda _step: everyone, {MAIN: Prompt(job.prompt)}, combine, tools.before, looks)


TOOLS: list[Tools] = [Tools()]


@pytest.fixture
def render(engine: Engine, small: LoadedModel, small_folder: Path) -> Callable[..., Rendering]:
    def act(tools: Tools, max_rows: int = 32, **fields: Any) -> Rendering:
        TOOLS[0] = tools
        resolved = replace(engine.resolve(ask(str(small_folder), **{"adapters": uses(2), **fields})), method=Probe())
        return batch.render(small, batch.Order([resolved], engine.source, max_rows, None, Cancel()))[0]

    return act


def collected(render: Callable[..., Rendering], **fields: Any) -> list[Attention]:
    found: list[Attention] = []

    def seen(predictions: Sequence[Prediction]) -> None:
        found.extend(one.attention for one in predictions if one.attention is not None)

    render(Tools(seen=seen), **fields)
    return found


def fronts(unet: nn.Module) -> list[str]:
    return [path for path, part in unet.named_modules() if {"forward", "weight"} & set(vars(part))]


def test_maps_are_probabilities_of_the_right_shape(render: Callable[..., Rendering]) -> None:
    found = collected(render, **WIDE)
    assert [tuple(one.maps.shape) for one in found] == [(77, 6, 12)] * 6
    assert all(torch.allclose(one.maps.sum(0), torch.ones(6, 12), atol=1e-5) for one in found)
    assert not torch.allclose(found[0].maps, found[1].maps, atol=1e-4)  # each pass has its own LoRA


def test_capturing_changes_no_picture(render: Callable[..., Rendering]) -> None:
    plain, captured = (render(Tools(captures=one), **WIDE) for one in (False, True))
    assert plain.image == captured.image and captured.record.unet_calls == 3


def test_the_unconditional_half_has_no_part(render: Callable[..., Rendering]) -> None:
    """Step 0's maps depend on noise, prompt and LoRA only, so guidance and the negative prompt leave them alone."""
    maps = [
        collected(render, num_inference_steps=1, **fields)[0].maps
        for fields in ({"guidance_scale": 1.0}, {"negative_prompt": "on"}, {"guidance_scale": 9.0})
    ]
    assert torch.allclose(maps[0], maps[1], atol=1e-6) and torch.allclose(maps[0], maps[2], atol=1e-6)


@torch.no_grad()
def test_against_diffusers_own_scores(sd15: LoadedModel) -> None:
    """The mean over heads and over the layers of the deepest level with attention, by the library's functions."""
    wanted: list[Tensor] = []

    def note(layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        assert isinstance(layer, DiffusersAttention)
        query = layer.head_to_batch_dim(layer.to_q(args[0]))
        key = layer.head_to_batch_dim(layer.get_submodule("to_k")(kwargs["encoder_hidden_states"]))
        wanted.append(layer.get_attention_scores(query, key).unflatten(0, (2, -1))[1].mean(0))

    paths = [path for path, part in sd15.unet.named_modules() if getattr(part, "is_cross_attention", False)]
    level = [path for path in paths if path.startswith(("down_blocks.2.", "up_blocks.1."))]
    hooks = [sd15.unet.get_submodule(path).register_forward_pre_hook(note, with_kwargs=True) for path in level]
    generator = torch.Generator().manual_seed(5)
    latents, texts = (torch.randn(shape, generator=generator) for shape in ((2, 4, 8, 16), (2, 77, 32)))
    try:
        with sd15.attention.opened([RowWish(), RowWish(tells=True)], 8, 16) as captured:
            sd15.predict_noise(latents, torch.tensor([400.0, 400.0]), texts)
    finally:
        for hook in hooks:
            hook.remove()
    assert len(wanted) == len(level) == 5
    found = captured.attention({1: Conditioning(Context(texts[1:]), None, lambda words: (), 77)}, 8, 16)
    assert torch.allclose(found[1].maps.flatten(1), torch.stack(wanted).mean(0).T, atol=1e-6)
    assert list(found) == [1] and found[1].maps.shape == (77, 2, 4)


def test_maps_of_words(render: Callable[..., Rendering], small: LoadedModel) -> None:
    found = collected(render, num_inference_steps=1)[0]
    one, twice, parted = (
        prompts.read(small, text, ()) for text in ("a cat on a (mat:1.2)", "a cat on a cat", "a cat BREAK a cat")
    )
    assert prompts.places(small, one, "cat") == (2,)
    assert prompts.places(small, one, "a") == (1, 4)
    assert prompts.places(small, twice, "a cat") == (1, 2, 4, 5)
    assert prompts.places(small, parted, "cat") == (2, small.chunk_length + 4)
    assert torch.equal(found.of("cat"), found.maps[2:3])
    assert torch.equal(found.of(""), found.maps[1:7])
    with pytest.raises(BadRequest, match="the words 'dog' are not among"):
        found.of("dog")


def apart(found: Sequence[Attention]) -> Tensor:
    """A loss: how much 'cat' and 'mat' are read in the same places, by each pass."""
    return sum((one.of("cat")[0] * one.of("mat")[-1] * 100).sum() for one in found)  # type: ignore[return-value]


@pytest.mark.parametrize("max_rows", [2, 32])
def test_slopes_are_gradients(max_rows: int, render: Callable[..., Rendering]) -> None:
    """Against differences, through LoRAs that differ by row."""
    checked: list[tuple[float, float]] = []

    def before(step: Step, latents: Tensor, look: Look) -> Tensor:
        passes = [Pass({"lora1": 1.0}), Pass({"lora0": 0.5, "lora2": 1.0})]
        value, slope = look.slope(latents, passes, apart)
        assert value == pytest.approx(float(apart(look.attention(latents, passes))), rel=1e-5)
        direction = slope / slope.norm()
        ahead, behind = (float(apart(look.attention(latents + sign * 0.05 * direction, passes))) for sign in (1, -1))
        checked.append(((ahead - behind) / 0.1, float(slope.norm())))
        return latents

    render(Tools(before), max_rows=max_rows, num_inference_steps=2, adapters=uses(3))
    assert len(checked) == 2
    for difference, norm in checked:
        assert norm > 1e-4 and difference == pytest.approx(norm, rel=0.05)


def test_going_downhill_lowers_the_loss_and_moves_the_picture(render: Callable[..., Rendering]) -> None:
    losses: list[tuple[float, float]] = []

    def before(step: Step, latents: Tensor, look: Look) -> Tensor:
        passes = [Pass({"lora0": 1.0})]
        value, slope = look.slope(latents, passes, apart)
        moved = latents - 0.1 * slope / slope.norm()
        losses.append((value, float(apart(look.attention(moved, passes)))))
        return moved

    moved = render(Tools(before))
    assert all(after < start for start, after in losses) and len(losses) == 3
    assert moved.image != render(Tools()).image
    assert (moved.record.looks, moved.record.slopes) == (6, 3)


def test_a_look_runs_no_further_than_it_must(render: Callable[..., Rendering], small: LoadedModel) -> None:
    ran: list[str] = []
    hooks = [
        small.unet.get_submodule(path).register_forward_hook(lambda *_, path=path: ran.append(path))
        for path in ("down_blocks.0", "mid_block", "conv_out")
    ]
    seen: list[list[str]] = []

    def before(step: Step, latents: Tensor, look: Look) -> Tensor:
        ran.clear()
        look.attention(latents, [Pass({})])
        seen.append(list(ran))
        assert fronts(small.unet) == []
        return latents

    try:
        render(Tools(before))
    finally:
        for hook in hooks:
            hook.remove()
    assert seen == [["down_blocks.0", "mid_block"]] * 3  # the last block's attention tells, then it ends


def test_nothing_is_left_when_a_loss_raises(render: Callable[..., Rendering], small: LoadedModel) -> None:
    def fails(found: Sequence[Attention]) -> Tensor:
        raise TypeError(f"no loss of {len(found)} maps")

    def before(step: Step, latents: Tensor, look: Look) -> Tensor:
        look.slope(latents, [Pass({"lora0": 1.0}), Pass({"lora1": 1.0})], fails)
        return latents

    digest = small.parameter_digest()
    with pytest.raises(TypeError):
        render(Tools(before))
    assert fronts(small.unet) == [] and small.parameter_digest() == digest and torch.is_grad_enabled()
    assert all(not parameter.requires_grad and parameter.grad is None for parameter in small.unet.parameters())


def test_a_dry_run_counts_looks(engine: Engine, small_folder: Path) -> None:
    TOOLS[0] = Tools(lambda step, latents, look: latents)
    resolved = replace(engine.resolve(ask(str(small_folder), adapters=uses(2))), method=Probe())
    assert price([resolved], 32).looks == 6
