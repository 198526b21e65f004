"""What CMLoRA saves, in FLOPs, on UNets of SD1.5's and SDXL's true size: on the meta device, which computes nothing.

The arithmetic it is held to is taken from one plain call of diffusers' UNet, module by module: a whole pass is all of
that call, a shallow one the modules that DeepCache leaves. Products of the LoRAs themselves are left out of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from pydantic import JsonValue
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from composer import registry
from composer.plan import Job, JobAdapter, Pass, Step
from pipelines import specs
from pipelines.denoiser import Ask, Denoiser, Kept, Tally
from pipelines.loading import Parts
from pipelines.model import LoadedModel
from pipelines.progress import Cancel
from pipelines.reading import Conditioning
from pipelines.room import Room
from pipelines.runtime import Runtime
from pipelines.text import Context
from tests import checkpoints
from tests.checkpoints import TRUE_SD, TRUE_XL, Widths

pytestmark = pytest.mark.thorough
META = torch.device("meta")
TIME_IDS = (1024, 1024, 0, 0, 1024, 1024)


@dataclass(frozen=True, eq=False)
class Shape:
    """A model without values, and what it reads."""

    model: LoadedModel
    context: Context
    side: int  # of the latents

    @property
    def latents(self) -> Tensor:
        return torch.empty(1, 4, self.side, self.side, device=META)

    def flops(self) -> dict[str, int]:
        """Return what one row costs in diffusers' own UNet, by module; "" is all of it."""
        unet: Any = self.model.unet
        sdxl = {"text_embeds": self.context.pooled, "time_ids": torch.ones(1, 6, device=META)}
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            unet(
                self.latents,
                torch.ones(1, device=META),
                encoder_hidden_states=self.context.embeds,
                added_cond_kwargs=None if self.context.pooled is None else sdxl,
            )
        root = type(unet).__name__
        named = {name.removeprefix(f"{root}."): sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
        return {**named, "": counter.get_total_flops()}


def shaped(widths: Widths, side: int) -> Shape:
    with META:
        unet, vae = checkpoints.modules(widths)["unet"], AutoencoderTiny()
        embeds = torch.empty(1, 77, sum(widths.texts))
        pooled = torch.empty(1, widths.texts[-1]) if widths.sdxl else None
    parts = Parts({}, unet, vae, {})
    return Shape(LoadedModel(specs.find("tiny"), parts, META, torch.float32, Runtime()), Context(embeds, pooled), side)


@pytest.fixture(scope="module")
def sd15_shape() -> Shape:
    return shaped(TRUE_SD, 64)


@pytest.fixture(scope="module")
def sdxl_shape() -> Shape:
    return shaped(TRUE_XL, 128)


def shallow(flops: dict[str, int], layers: int, up: str, there: int) -> int:
    """Return what a shallow pass costs by arithmetic: what leads to the last layers of the last block, and they."""
    always = ["conv_in", "time_embedding", "add_embedding", "conv_out"]
    down = [f"down_blocks.0.{kind}.{n}" for kind in ("resnets", "attentions") for n in range(layers - 1)]
    last = [f"{up}.{kind}.{n}" for kind in ("resnets", "attentions") for n in range(there - layers, there)]
    return sum(flops.get(name, 0) for name in (*always, *down, *last))


def measured(shape: Shape, count: int, steps: Sequence[int], of: int, **parameters: JsonValue) -> list[int]:
    """Return what these steps of CMLoRA cost in the engine, per row; all steps up to the last one are run."""
    job = Job(tuple(JobAdapter(f"l{n}", 1.0, 1.0) for n in range(count)), "", "", "all", of, shape.side, shape.side)
    plan = registry.create("cmlora", {"order": "named", **parameters}).start(job)
    slots: dict[str, Kept] = {}
    denoiser, found = Denoiser(shape.model, Room(shape.model, 64), Cancel()), dict[int, int]()
    for index in range(max(steps) + 1):
        asks = [asked(shape, one, slots) for one in plan.passes(Step(index, of, 500.0, 1.0))]
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            denoiser.predict(asks)
        found[index], rest = divmod(counter.get_total_flops(), 2)
        assert not rest  # guided: two rows each
    return [found[index] for index in steps]


def asked(shape: Shape, wish: Pass, slots: dict[str, Kept]) -> Ask:
    read = Conditioning(shape.context, shape.context, lambda _words: (), 77)
    return Ask(shape.latents, 500.0, read, TIME_IDS, (), (), Tally(), wish, slots=slots)


@pytest.mark.parametrize(("name", "last"), [("sd15", "up_blocks.3"), ("sdxl", "up_blocks.2")])
def test_a_step_costs_what_its_schedule_says(name: str, last: str, request: pytest.FixtureRequest) -> None:
    """Three LoRAs, four steps of the paper's schedule, which begins turns at 0, 1 and 3; at both points of reuse."""
    shape: Shape = request.getfixturevalue(f"{name}_shape")
    flops = shape.flops()
    for reuse, layers in (("block", 3), ("layer", 1)):
        small = shallow(flops, layers, last, 3)
        assert 0 < small < flops[""] / 2
        wanted = [whole * flops[""] + (3 - whole) * small for whole in (3, 1, 0, 1)]
        assert measured(shape, 3, range(4), 4, reuse=reuse) == wanted


def test_cached_composite_on_sdxl(sdxl_shape: Shape) -> None:
    """Five LoRAs, equal shares, the last layer's features kept: a turn of three steps takes less than half of merge's.

    In the first step all are computed whole; at the paper's 200 steps that does not count for much.
    """
    flops = sdxl_shape.flops()
    options: dict[str, JsonValue] = {"lead": 0.0, "interval": 3, "reuse": "layer"}
    first, *_, begins, goes, on = measured(sdxl_shape, 5, range(6), 6, **options)
    assert first == 5 * flops[""]
    assert (begins + goes + on) / 3 <= 0.45 * flops[""]
    assert begins > goes == on
    turns = 67  # of 200 steps
    whole = first + (turns - 1) * begins + (200 - turns) * goes
    assert whole / 200 <= 0.45 * flops[""]
