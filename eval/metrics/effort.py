"""What one picture takes by itself, counted: the first set of each size is rendered once more, alone, by every method.

Arithmetic is counted by torch (multiplications and additions of products, convolutions and attention; decompositions
are not), from reading the prompt to the decoded picture, with what is merged for it. Model and LoRAs are in memory
before, and nothing that was prepared of them, so that neither order nor company of the methods changes what is found.
"""

from __future__ import annotations

from functools import partial

from torch.utils.flop_counter import FlopCounterMode

from composer.request import RenderRequest
from eval.memory import rise
from eval.metrics.batch import Batch
from eval.metrics.registry import Found, Measure, metric
from pipelines.engine import Engine


@metric(
    "effort",
    Measure("gflop", "GFLOP", "GFLOP", "lower", "arithmetic of one picture alone; one set of each size"),
    Measure(
        "memory", "memory, MB", "MB", "lower", "how far it makes memory rise, beyond model and LoRAs; the same sets"
    ),
    by="torch's counter, and the system",
    of_work=True,
)
def effort(batch: Batch) -> list[Found | None]:
    """Render what is to be rendered once more; None for all other pictures."""
    return [None if shot.alone is None else measured(batch.tools.engine, shot.alone) for shot in batch.shots]


def measured(engine: Engine, request: RenderRequest) -> Found:
    """Render a resolved request alone, and count."""
    model = engine.model(request.model)
    first = {"method": "merge", "parameters": {}, "adapters": (), "num_inference_steps": 1, "hires": None}
    engine.render(request.model_copy(update=first))  # what a process takes once is not this picture's
    with model.lock:
        for use in request.adapters:
            model.store.hold(use.name, use.sha256 or "", partial(engine.source.load, use.name, model.layout))
        model.forget()
    counter = FlopCounterMode(display=False)

    def act() -> None:
        with counter:
            engine.render(request)

    risen = rise(model.device, act)
    memory = {} if risen is None else {"memory": risen}
    return Found({"gflop": counter.get_total_flops() / 1e9, **memory})
