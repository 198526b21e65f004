"""Every method makes pictures of any size that is whole latents, also where the UNet cannot halve it evenly."""

from __future__ import annotations

from pathlib import Path

import pytest

from composer import registry
from pipelines.engine import Engine
from tests.requests import final_latents, for_method


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", registry.names())
def test_a_size_that_the_unet_cannot_halve_evenly(name: str, engine: Engine, small_folder: Path) -> None:
    request = for_method(name, str(small_folder), width=18, height=22)
    latents = final_latents(engine, [request, for_method(name, str(small_folder))])
    assert [tuple(one.shape[-2:]) for one in latents] == [(11, 9), (8, 8)]
    assert all(bool(one.isfinite().all()) for one in latents)
    assert engine.render(request).image.size == (18, 22)
