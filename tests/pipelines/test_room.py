"""Memory that runs out: fewer rows, then one pass at a time, then tiles, then a typed error; never without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from composer.request import Hires
from pipelines import specs
from pipelines.engine import Engine
from pipelines.errors import OutOfMemory
from pipelines.model import LoadedModel
from pipelines.runtime import Runtime
from tests.adapters import Shelf, five
from tests.contract.test_leaks import untouched
from tests.requests import ask, close, final_latents, told, uses
from tests.shortage import full

TILED = "the memory of cpu ran out at the decoder; it worked in tiles of 16 pixels"


def middle(model: LoadedModel) -> nn.Module:
    return cast(Any, model.unet).mid_block


def decoder(model: LoadedModel) -> nn.Module:
    return cast(Any, model.component("vae")).decoder


def latents(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_rows_are_halved_as_often_as_it_takes(engine: Engine, small: LoadedModel, small_folder: Path) -> None:
    requests = [ask(str(small_folder), adapters=uses(2), method="composite", seed=seed) for seed in range(8)]
    with full(middle(small), lambda given: len(given) > 5) as seen:
        renderings = engine.render_many(requests)
    assert [shape[0] for shape in seen[:4]] == [16, 8, 4, 4]
    assert {shape[0] for shape in seen[2:]} == {4}
    why = "the memory of cpu ran out with 16 rows per UNet call; at most 4 at a time were run"
    for one in renderings:
        assert (one.record.rows_per_call, told(one.record)) == (4, (why,))
        assert one.record.unet_passes == 2 * 3  # of calls that were made, and no try


def test_memory_that_runs_out_late_changes_no_latents(engine: Engine, small: LoadedModel, small_folder: Path) -> None:
    requests = [ask(str(small_folder), adapters=uses(2), scheduler="euler_a", seed=seed) for seed in range(4)]
    wanted = final_latents(engine, requests)
    calls: list[int] = []

    def beyond(given: Tensor) -> bool:
        calls.append(len(given))
        return len(calls) > 1 and len(given) > 2

    with full(middle(small), beyond):
        found = final_latents(engine, requests)
    assert calls[:4] == [8, 8, 4, 2]
    assert all(close(one, other) for one, other in zip(found, wanted, strict=True))


def test_too_little_for_one_pass_is_an_error_and_the_next_request_succeeds(
    engine: Engine, small: LoadedModel, small_folder: Path
) -> None:
    requests = [ask(str(small_folder), adapters=uses(2), seed=seed) for seed in (1, 2)]
    before = engine.render_many(requests)
    with (
        untouched(small),
        full(middle(small), lambda given: len(given) > 1),
        pytest.raises(OutOfMemory, match="memory of cpu is too little for one pass at a time; choose a smaller size"),
    ):
        engine.render_many(requests)
    after = engine.render_many(requests)
    assert [told(one.record) for one in after] == [(), ()]
    assert [one.image for one in after] == [one.image for one in before]


def test_memory_that_runs_out_anywhere_else_is_an_error(engine: Engine, small: LoadedModel, small_folder: Path) -> None:
    with (
        untouched(small),
        full(small.text_encoder, lambda given: True),
        pytest.raises(OutOfMemory, match="memory of cpu is too little for this picture"),
    ):
        engine.render(ask(str(small_folder)))


def test_a_decoder_works_in_tiles(engine: Engine, small: LoadedModel, small_folder: Path) -> None:
    request = ask(str(small_folder), width=32, height=24)
    whole = engine.render(request)
    with untouched(small), full(decoder(small), lambda given: given.shape[-1] > 8) as seen:
        tiled = engine.render(request)
    assert {shape[-2:] for shape in seen} >= {(12, 16), (8, 8)}
    assert (told(tiled.record), told(whole.record)) == ((TILED,), ())
    a, b = (np.asarray(one.image, dtype=int) for one in (whole, tiled))
    assert a.shape == b.shape
    assert 0 < abs(a - b).mean() < 8  # of 255: the seams are blended
    assert not cast(Any, small.component("vae")).use_tiling
    assert engine.render(request).image == whole.image


def test_tiles_shrink_until_they_fit(sd15: LoadedModel) -> None:
    """Four levels, as SD1.5's decoder has them: tiles of 16 latent pixels are too large, those of 8 are not."""
    with torch.no_grad(), full(decoder(sd15), lambda given: given.shape[-1] > 8) as seen:
        decoded = sd15.decode(latents(1, 4, 32, 32))
    assert [shape[-1] for shape in seen[:3]] == [32, 16, 8]
    assert decoded.image.size == (256, 256)
    assert decoded.notice.endswith("tiles of 64 pixels")
    assert not cast(Any, sd15.component("vae")).use_tiling


def test_a_decoder_without_room_for_a_tile_is_an_error(small: LoadedModel) -> None:
    with (
        torch.no_grad(),
        untouched(small),
        full(decoder(small), lambda given: True),
        pytest.raises(OutOfMemory, match="too little for the decoder, in tiles too"),
    ):
        small.decode(latents(1, 4, 16, 16))
    assert not cast(Any, small.component("vae")).use_tiling


def test_a_picture_decoded_on_the_way_is_told_too(engine: Engine, small: LoadedModel, small_folder: Path) -> None:
    """A second pass enlarges the first one's picture, and its own is larger still."""
    hires = Hires(scale=1.5, strength=0.7, upscaler="pixels")
    with full(decoder(small), lambda given: given.shape[-1] == 16):
        record = engine.render(ask(str(small_folder), width=32, height=32, hires=hires)).record
    assert told(record) == (TILED,)


def test_a_decoder_told_to_tile_takes_smaller_ones(sd15_folder: Path) -> None:
    model = LoadedModel.load(specs.find(str(sd15_folder)), torch.device("cpu"), Runtime(vae_tiling=True))
    vae = cast(Any, model.component("vae"))
    vae.tile_latent_min_size, vae.tile_sample_min_size = 16, 128
    with torch.no_grad(), full(decoder(model), lambda given: given.shape[-1] > 8) as seen:
        decoded = model.decode(latents(1, 4, 24, 24))
    assert [shape[-1] for shape in seen[:2]] == [16, 8]
    assert decoded.notice.endswith("tiles of 64 pixels")
    assert (vae.use_tiling, vae.tile_latent_min_size, vae.tile_sample_min_size) == (True, 16, 128)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_that_is_nearly_full(sd15_folder: Path) -> None:
    """Memory is limited to less than many rows take and more than one pass does; torch itself then raises."""
    device = torch.device("cuda", 0)
    model = LoadedModel.load(specs.find(str(sd15_folder)), device, Runtime(dtype="float32"))
    shelf = Shelf(five(model.layout))
    ample, narrow = (Engine(shelf, load=lambda spec: model, max_rows=rows) for rows in (32, 2))
    requests = [ask(str(sd15_folder), width=512, height=512, num_inference_steps=2, seed=n) for n in range(16)]
    wanted, least = final_latents(narrow, requests), torch.cuda.max_memory_reserved(device)
    torch.cuda.reset_peak_memory_stats(device)
    final_latents(ample, requests)
    most = torch.cuda.max_memory_reserved(device)
    assert most > 1.5 * least
    model.spare()
    total = torch.cuda.get_device_properties(device).total_memory
    try:
        torch.cuda.set_per_process_memory_fraction((least + most) / 2 / total, device)
        renderings, found = ample.render_many(requests), final_latents(ample, requests)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    assert all("ran out with 32 rows" in one.record.notices[0] for one in renderings)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    assert ample.render_many(requests)[0].record.notices == ()
