"""Every method makes its picture where memory is enough for one pass at a time only, and says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from torch import Tensor

from composer import registry
from composer.request import RenderRequest
from pipelines.engine import Engine
from pipelines.images import Rendering
from pipelines.model import LoadedModel
from pipelines.progress import StepReport
from tests.contract.test_leaks import untouched
from tests.requests import close, for_method
from tests.shortage import full

ROWS = 2  # of a pass with guidance


def rendered(engine: Engine, requests: list[RenderRequest]) -> tuple[list[Rendering], list[Tensor]]:
    last: dict[int, Tensor] = {}

    def keep(report: StepReport) -> None:
        last.update({picture.position: picture.latents for picture in report.pictures})

    return engine.render_many(requests, keep), [last[place] for place in range(len(requests))]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", registry.names())
def test_one_pass_at_a_time(name: str, engine: Engine, small: LoadedModel, small_folder: Path) -> None:
    requests = [for_method(name, str(small_folder), seed=seed) for seed in (7, 8)]
    sequential = Engine(engine.source, load=lambda spec: small, max_rows=ROWS)
    _, wanted = rendered(sequential, requests)
    middle = cast(Any, small.unet).mid_block
    with untouched(small), full(middle, lambda given: len(given) > ROWS) as seen:
        renderings, found = rendered(engine, requests)
    assert max(shape[0] for shape in seen) > ROWS
    assert all(close(one, other) for one, other in zip(found, wanted, strict=True))
    for one in renderings:
        assert one.record.rows_per_call <= ROWS
        assert any("memory of cpu ran out with" in notice for notice in one.record.notices)
    afterwards, _ = rendered(engine, requests)
    assert not any("memory" in notice for one in afterwards for notice in one.record.notices)
