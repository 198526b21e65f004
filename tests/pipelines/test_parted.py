"""Attention that parts a picture: barriers, leanings, what places tell, steps ahead; and the methods that use them."""

from __future__ import annotations

import base64
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from composer.masks import Box
from composer.plan import MAIN, Job, Look, Pass, Plan, Prompt, Step
from composer.registry import MethodModel
from composer.request import AdapterUse, Region
from lora_zoo.adapter import DenseDelta
from pipelines import batch
from pipelines.attention import RowWish, Spot
from pipelines.engine import Engine
from pipelines.images import Rendering
from pipelines.local import Drawings, Term, Where, local_layer
from pipelines.model import LoadedModel
from pipelines.progress import Cancel
from pipelines.reading import Conditioning
from pipelines.text import Context
from tests.requests import ask, final_latents, uses

LEFT, RIGHT = Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1)
WIDE: dict[str, Any] = {"width": 24, "height": 12}  # latents of 6 x 12


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def attention(layer: Any, query: Tensor, key: Tensor, added: Tensor) -> tuple[Tensor, Tensor]:
    """Return a layer's probabilities [heads, places, tokens] and output, by matrices in double precision."""
    q, k, v = (
        (x.double() @ part.weight.double().T).unflatten(1, (layer.heads, -1)).transpose(0, 1)
        for x, part in ((query, layer.to_q), (key, layer.to_k), (key, layer.to_v))
    )
    shares = (q @ k.mT / q.shape[-1] ** 0.5 + added).softmax(-1)
    out = (shares @ v).transpose(0, 1).flatten(1)
    return shares, out @ layer.to_out[0].weight.double().T + layer.to_out[0].bias.double()


def layers(model: LoadedModel, ending: str) -> list[Any]:
    return [part for path, part in model.unet.named_modules() if path.endswith(ending)]


@torch.no_grad()
def test_parts_do_not_see_each_other(sd15: LoadedModel) -> None:
    """Rows sum to 1, blocked pairs are symmetric, the background is free, a place in two sees both."""
    layer = layers(sd15, "attn1")[0]
    hidden = random(2, 24, layer.query_dim)
    spots = (Spot(LEFT, alone=True), Spot(Box(0.25, 0, 1, 0.5), alone=True))
    with sd15.attention.opened([RowWish(spots), RowWish(tuple(replace(one, alone=False) for one in spots))], 4, 6):
        found = layer(hidden)
    masks = [mask.at(4, 6).flatten() >= 0.5 for mask in (spots[0].mask, spots[1].mask)]
    blocked = torch.zeros(24, 24, dtype=torch.bool)
    for a in range(24):
        for b in range(24):
            own, other = ({n for n, mask in enumerate(masks) if mask[place]} for place in (a, b))
            blocked[a, b] = bool(own) and bool(other) and not own & other
    barriers = torch.zeros(24, 24).double().masked_fill(blocked, -torch.inf)
    assert torch.equal(blocked, blocked.T) and blocked.any() and not blocked.all(1).any()
    shares, wanted = attention(layer, hidden[0], hidden[0], barriers)
    assert torch.allclose(shares.sum(-1), torch.ones(1).double()) and not shares[:, blocked].any()
    assert torch.allclose(found[0].double(), wanted, atol=1e-5)
    assert torch.allclose(found[1].double(), attention(layer, hidden[1], hidden[1], torch.zeros(1))[1], atol=1e-5)
    assert "forward" not in vars(layer)


@torch.no_grad()
def test_places_lean_to_words_and_tell(sd15: LoadedModel) -> None:
    """What areas read, with and without leanings, on one layer; told are all prompts, everywhere."""
    layer = layers(sd15, "attn2")[0]
    hidden, texts = random(2, 24, layer.query_dim), random(2, 3 * 77, 32)
    spots = (Spot(LEFT, leans=((4, 2.0), (7, -3.0))), Spot(RIGHT))
    with sd15.attention.opened([RowWish((Spot(LEFT), Spot(RIGHT))), RowWish(spots)], 4, 6):
        found = layer(hidden, encoder_hidden_states=texts)
    leaning = torch.zeros(77).double()
    leaning[4], leaning[7] = 2.0, -3.0
    for row, added in ((0, torch.zeros(77)), (1, leaning)):
        left, right = (
            attention(layer, hidden[row], text, one)[1].unflatten(0, (4, 6))
            for text, one in zip(texts[row].split(77)[1:], (added, torch.zeros(77)), strict=True)
        )
        wanted = torch.cat([left[:, :3], right[:, 3:]], 1).flatten(0, 1)
        assert torch.allclose(found[row].double(), wanted, atol=1e-5)


@torch.no_grad()
def test_what_is_told_of_places_and_areas(sd15: LoadedModel) -> None:
    """Against matrices in double precision, over the layers of the level that tells; the outputs stay the same."""
    between, alike, maps = list[Tensor](), list[Tensor](), list[Tensor]()
    latents, texts = random(2, 4, 8, 16), random(2, 2 * 77, 32)

    def note(layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], out: Tensor) -> None:
        text = kwargs.get("encoder_hidden_states")
        if text is None:
            between.append(attention(layer, args[0][1], args[0][1], torch.zeros(1))[0].mean(0))
            alike.append(out[1].double() @ out[1].double().T)
        else:
            maps.append(attention(layer, args[0][1], text[1, 77:], torch.zeros(1))[0].mean(0))

    level = [
        part
        for path, part in sd15.unet.named_modules()
        if path.startswith(("down_blocks.2.", "up_blocks.1.")) and path.endswith(("attn1", "attn2"))
    ]
    hooks = [part.register_forward_hook(note, with_kwargs=True) for part in level]
    rows = [RowWish((Spot(LEFT),)), RowWish((Spot(LEFT),), tells=True, places=True)]
    try:
        with sd15.attention.opened(rows[:1] * 2, 8, 16):
            plain = sd15.predict_noise(latents, torch.tensor([400.0, 400.0]), texts)
        for some in (between, alike, maps):
            some.clear()
        with sd15.attention.opened(rows, 8, 16) as captured:
            assert torch.equal(sd15.predict_noise(latents, torch.tensor([400.0, 400.0]), texts), plain)
    finally:
        for hook in hooks:
            hook.remove()
    own = Conditioning(Context(texts[1:]), None, lambda words: (), 77)
    found = captured.attention({1: replace(own, areas=(own,))}, 8, 16)[1]
    assert found.between is not None and found.alike is not None
    assert torch.allclose(found.between.double(), torch.stack(between).mean(0), atol=1e-5)
    assert torch.allclose(found.alike.double(), torch.stack(alike).mean(0), rtol=1e-3, atol=1e-4)
    assert torch.allclose(found.areas[0].maps.flatten(1).T.double(), torch.stack(maps).mean(0), atol=1e-5)


def test_words_that_are_left_alone() -> None:
    layer, x = nn.Linear(5, 7), random(1, 12, 5)
    where = Where(LEFT, 4, 6, block=1, blocks=2, tokens=3, without=(1,))
    delta = random(7, 5)
    term = Term(0, DenseDelta(delta), 1.0, where)
    with torch.no_grad():
        out = local_layer(layer, layer.forward, [term], Drawings(), reads_text=True)(x)
        changed = (out - layer(x)).abs().amax((0, 2)) > 1e-4
    assert changed.tolist() == [False] * 6 + [True, False, True, True, False, True]  # said twice over


class Ahead(MethodModel):
    """Plain, but it looks ahead first."""

    def start(self, job: Job) -> Plan:
        wanted = [Pass({use.name: use.weight for use in job.adapters}, places=True)]

        def before(step: Step, latents: Tensor, look: Look) -> Tensor:
            if step.index == 0:
                SEEN.append(look.ahead(latents, wanted[0], 2).maps)
            elif step.index == 1:
                SEEN.append(look.attention(latents, wanted)[0].maps)
            return latents

        looks = {0: 2, 1: 1}
        prompts = {MAIN: Prompt(job.prompt, job.negative_prompt)}
        return Plan(lambda _step: wanted, prompts, before_step=before, looks=lambda step: looks.get(step.index, 0))


SEEN: list[Tensor] = []


@pytest.mark.parametrize("scheduler", ["ddim", "euler_a", "dpmpp_2m"])
def test_ahead_is_what_comes_and_leaves_nothing(
    scheduler: str, engine: Engine, small: LoadedModel, small_folder: Path
) -> None:
    asked = ask(str(small_folder), adapters=uses(2), scheduler=scheduler, text_encoder_adapters="none", **WIDE)
    SEEN.clear()
    resolved = replace(engine.resolve(asked), method=Ahead())
    found = batch.render(small, batch.Order([resolved], engine.source, 32, None, Cancel()))[0]
    assert torch.allclose(SEEN[0], SEEN[1], atol=1e-6)
    assert (found.record.looks, found.record.unet_passes) == (3, 3)
    assert found.image == engine.render(asked).image  # the noise drawn ahead is drawn again


def placed(use: AdapterUse, **region: Any) -> AdapterUse:
    return use.model_copy(update={"region": Region(**region)})


def render(engine: Engine, folder: Path, method: str, **fields: Any) -> Rendering:
    usual: dict[str, Any] = {"adapters": uses(2), "num_inference_steps": 5, **WIDE}
    return engine.render(ask(str(folder), method=method, **{**usual, **fields}))


def test_one_box_over_everything_is_the_plain_lora(engine: Engine, small_folder: Path) -> None:
    """T24."""
    use = uses(1, 2)[0]
    common: dict[str, Any] = {**WIDE, "text_encoder_adapters": "all"}
    plain = ask(str(small_folder), adapters=(use,), prompt="on", **common)
    full = placed(use, box=(0, 0, 1, 1), prompt="on")
    boxed = ask(
        str(small_folder), adapters=(full,), method="lora_composer", parameters={"update": 0.0}, prompt="cat", **common
    )
    assert float((final_latents(engine, [plain])[0] - final_latents(engine, [boxed])[0]).abs().max()) <= 1e-4


def test_without_a_box_it_is_all_of_them(engine: Engine, small_folder: Path) -> None:
    merged = render(engine, small_folder, "merge", text_encoder_adapters="all")
    found = render(engine, small_folder, "lora_composer", text_encoder_adapters="all")
    assert found.image == merged.image and found.record.looks == 0


def test_lora_composer_costs_what_it_says(engine: Engine, small_folder: Path) -> None:
    """One pass a step; one look to begin with, and one with a gradient while latents are moved."""
    halves = (placed(uses(1)[0], box=(0, 0, 0.5, 1)), placed(uses(1, 1)[0], box=(0.5, 0, 1, 1)))
    record = render(engine, small_folder, "lora_composer", adapters=halves, num_inference_steps=4).record
    assert (record.unet_passes, record.looks, record.slopes) == (4, 1 + 3, 3)  # steps 0, 1 and 2 of 4
    still = render(engine, small_folder, "lora_composer", adapters=halves, parameters={"update": 0.0, "reinit": False})
    assert (still.record.looks, still.record.slopes) == (0, 0)


def test_clora_costs_what_it_says_and_shows_masks(engine: Engine, small_folder: Path) -> None:
    """N + 1 passes a step, and N + 1 looks with a gradient for each update."""
    found = render(engine, small_folder, "clora", adapters=uses(3), parameters={"refine": 2, "until": 0.4})
    assert found.record.unet_passes == 5 * 4
    assert found.record.looks == found.record.slopes == 4 * (3 + 3)  # five steps: each is a fifth, two are early
    assert list(found.findings) == [f"{what} lora{n}" for what in ("mask of", "attention to") for n in range(3)]
    assert all(one.size == (12, 6) and one.getextrema()[1] == 255 for one in found.findings.values())
    attention, mask = (np.array(found.findings[f"{what} lora0"]) for what in ("attention to", "mask of"))
    assert set(np.unique(mask)) <= {0, 255} and len(np.unique(attention)) > 2
    still = render(engine, small_folder, "clora", parameters={"update": 0.0})
    assert (still.record.looks, still.record.unet_passes) == (0, 15)


def test_freefuse_costs_what_it_says_and_parts_the_picture(engine: Engine, small_folder: Path) -> None:
    """Steps ahead, then one pass a step; masks are disjoint and cover all."""
    found = render(engine, small_folder, "freefuse", parameters={"ahead": 0.4})
    assert (found.record.unet_passes, found.record.looks, found.record.slopes) == (5, 2, 0)
    one, two = (pil_to_tensor(picture) for picture in found.findings.values())
    assert torch.equal(one + two, torch.full_like(one, 255)) and one.any() and two.any()


def test_freefuse_is_tokens_in_the_regions_that_it_found(engine: Engine, small_folder: Path) -> None:
    """Without leanings it is what `regional` does with these masks."""
    none: dict[str, Any] = {"text_encoder_adapters": "none"}
    found = render(engine, small_folder, "freefuse", parameters={"bias": 0.0}, **none)
    regions = tuple(placed(use, mask=inline(found.findings[f"mask of {use.name}"])) for use in uses(2))
    given = render(engine, small_folder, "regional", adapters=regions, **none)
    ours, theirs = (pil_to_tensor(one.image) for one in (found, given))
    assert int((ours - theirs).abs().max()) <= 1


def pil_to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).int()


def inline(mask: Image.Image) -> str:
    buffer = BytesIO()
    mask.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
