"""What a server refuses before work, by arithmetic, memory and time; each with the figure, the limit, what to lower."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from composer.request import AdapterUse, RenderRequest
from pipelines import estimates
from pipelines.engine import Engine
from pipelines.estimates import Estimate
from pipelines.jobs.states import State
from pipelines.pricing import Cost
from pipelines.progress import Cancel
from ui import words
from ui import worker as worker_module
from ui.calls import Calls
from ui.errors import TooMuch
from ui.history import Asked
from ui.limits import Limits, check_held, check_memory, of_machine
from ui.service import Service
from ui.tabs import compare

TRIO = tuple(AdapterUse(name=name) for name in ("zorp", "neon", "trident"))


@pytest.fixture(scope="module")
def tiny() -> Engine:
    return Engine()


@pytest.fixture
def make(tiny: Engine, tmp_path: Path) -> Iterator[Callable[[Limits], Service]]:
    made: list[Service] = []

    def service(limits: Limits) -> Service:
        made.append(Service(tiny, tmp_path, limits=limits))
        return made[-1]

    yield service
    for one in made:
        one.stop()


def ask(**fields: Any) -> RenderRequest:
    return RenderRequest.model_validate({"prompt": "zorp", **fields})


@pytest.mark.parametrize(
    ("fields", "figure", "lower"),
    [
        ({"width": 768, "height": 768}, r"51,6\d\d GFLOP, as much as 1,47\d usual", "a smaller size than 768x768"),
        ({"width": 8192, "height": 8192}, r"609,\d{3},\d{3} GFLOP", "a smaller size than 8192x8192"),
        ({"prompt": " AND ".join(["a"] * 1600)}, r"27,5\d\d GFLOP", "fewer passes in a step than 1,600"),
        (
            {"num_inference_steps": 999, "method": "composite", "adapters": TRIO, "width": 128, "height": 128},
            "GFLOP",
            "fewer steps than 999",
        ),
        ({"hires": {"scale": 8.0, "strength": 1.0}}, "GFLOP", "a smaller size than 512x512"),
    ],
    ids=["768", "8192", "1600 AND", "steps", "hires"],
)
def test_a_picture_that_takes_too_much_is_refused_before_work(
    fields: dict[str, Any], figure: str, lower: str, make: Callable[[Limits], Service]
) -> None:
    service = make(Limits())
    for act in (lambda one: service.submit(Asked((one,))), lambda one: service.cost([one])):
        with pytest.raises(TooMuch, match=f"{figure}.*this server takes at most 256: ask for {lower}"):
            act(ask(**fields))
    assert service.history.jobs() == []


def test_a_pass_that_is_too_large_is_refused_though_it_is_one_step(make: Callable[[Limits], Service]) -> None:
    service = make(Limits(job_gflop=20_000.0))
    service.cost([ask(num_inference_steps=1, width=256, height=256)])
    with pytest.raises(TooMuch, match="one pass of the UNet at 512x512 takes 564 GFLOP; this server takes at most 400"):
        service.cost([ask(num_inference_steps=1, width=512, height=512)])


def test_a_job_of_many_pictures_is_refused_by_their_sum(make: Callable[[Limits], Service]) -> None:
    service = make(Limits(job_gflop=3_600.0))
    seeds = [ask(seed=seed) for seed in range(102)]
    assert service.cost(seeds).unet_passes == 102 * 20
    with pytest.raises(TooMuch, match="more than 3,600 GFLOP.*its picture of 64x64 takes 35.*fewer pictures"):
        service.cost([*seeds, ask(seed=102)])


def test_memory_that_the_machine_lacks_is_refused() -> None:
    limits = Limits(memory=8 * 10**9)
    check_memory(Cost(1, 2, 1, memory=7 * 10**9), limits)
    with pytest.raises(TooMuch, match=r"about 24.0 GB of memory beside the model; this machine has 8.0 GB"):
        check_memory(Cost(1, 2, 1, memory=24 * 10**9), limits)
    check_memory(Cost(1, 2, 1, memory=24 * 10**9), Limits())


def test_patience_decides_how_much_arithmetic_a_job_may_take() -> None:
    hour, day = (of_machine(seconds, gpu=False) for seconds in (3600.0, 24 * 3600.0))
    assert (hour.job_seconds, day.job_gflop) == (3600.0, 24 * hour.job_gflop)
    assert hour.memory == estimates.machine_memory() > 0
    gpu = of_machine(3600.0, gpu=True, folders=False)
    assert (gpu.memory, gpu.folders, gpu.job_gflop) == (0, False, pytest.approx(5.04e7))


def test_a_job_that_takes_too_long_ends_says_how_far_it_came_and_keeps_what_is_finished(
    make: Callable[[Limits], Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time stands still until the first go is kept, and then is over: 16 of 20 pictures."""
    clock = [0.0]
    monkeypatch.setattr(worker_module, "Cancel", partial(Cancel, clock=lambda: clock[0]))
    service = make(Limits(job_seconds=60.0))
    own = service.worker._keep

    def keeping(*arguments: Any) -> None:
        own(*arguments)
        clock[0] = 61.0 if len(service.history.pictures(job.id)) == 16 else clock[0]

    monkeypatch.setattr(service.worker, "_keep", keeping)
    job = service.submit(Asked(tuple(ask(seed=seed, num_inference_steps=1) for seed in range(20))))
    service.start()
    ended = service.wait(job.id, 120).job
    assert ended.state is State.FAILED
    assert "after 60 seconds" in ended.error and "16 of 20 pictures are finished and kept" in ended.error
    assert len(service.history.pictures(job.id)) == 16


def test_the_cost_line_tells_time_first() -> None:
    cost = Cost(40, 80, 20, gflop=70.3, memory=9 * 10**6)
    assert words.cost(cost, 2, None) == (
        "Time not yet measured here. 40 passes, 80 rows in 20 model calls for 2 pictures; 70 GFLOP, 9 MB"
    )
    assert words.cost(cost, 2, Estimate(3.2, "cpu", "float32", 5)).startswith("About 3.2 s. 40 passes")


def test_compared_pictures_tell_their_own_seconds(make: Callable[[Limits], Service]) -> None:
    """Composite of three takes three times the passes of merge, and is told so, not that each took half."""
    service = make(Limits())
    service.start()
    both = tuple(
        ask(prompt="zorp, neon, trident", adapters=TRIO, method=method, num_inference_steps=2)
        for method in ("merge", "composite")
    )
    job = service.submit(Asked(both, "compare", labels=("Merge", "Composite")))
    assert service.wait(job.id, 120).job.state is State.DONE
    merge, composite = service.history.pictures(job.id)
    assert composite.seconds / merge.seconds == pytest.approx(2.7, abs=0.4)  # a decoding each beside the passes
    together = f"{merge.seconds + composite.seconds:.2f} s together"
    assert compare.took(job, (merge, composite)) == [
        f"{merge.seconds:.2f} s, its part of {together}",
        f"{composite.seconds:.2f} s, its part of {together}",
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "a" * 2000},
        {"adapters": [{"name": "zorp", "words": ["zorp", *("w" * 500 for _ in range(4))]}]},
        {"parameters": {"note": "x" * 2000}},
        {"adapters": [{"name": "zorp", "region": {"box": [0, 0, 1, 1], "prompt": "p" * 2000}}]},
    ],
    ids=["prompt", "words", "parameters", "region"],
)
def test_all_text_of_a_request_counts_once_for_each_picture(
    fields: dict[str, Any], make: Callable[[Limits], Service]
) -> None:
    service = make(Limits(inline=20_000))
    request = ask(**fields)
    size = len(request.model_dump_json())
    assert 2000 < size < 4000
    check_held([request] * (20_000 // size), service.limits)
    with pytest.raises(TooMuch, match="characters together.*this server takes 20,000 per job"):
        Calls(service).submit(request.model_dump(), 11)
    assert service.history.jobs() == []
