"""What a picture takes."""

from __future__ import annotations

from eval.metrics.batch import Batch, Made
from eval.metrics.registry import Found, Measure, metric


@metric(
    "cost",
    Measure("passes", "UNet passes", "passes", "lower", "whole evaluations of the UNet that the method asks for"),
    Measure("shallow_passes", "shallow passes", "passes", "lower", "evaluations of its outer layers only"),
    Measure("looks", "looks", "passes", "lower", "partial evaluations between steps, to see what attention reads"),
    Measure("slopes", "slopes", "passes", "lower", "of the looks, those followed by a backward pass"),
    Measure("rows", "UNet rows", "rows", "lower", "samples that go through the UNet"),
    Measure("seconds", "seconds", "s", "lower", "its share of a call's time, on the machine that rendered it"),
    by="each picture's record, and the clock",
    of_work=True,
)
def cost(batch: Batch) -> list[Found | None]:
    """Read what was noted when the picture was rendered; drawings took nothing, and what was not noted is left out."""
    return [None if shot.made is None else Found(_noted(shot.made)) for shot in batch.shots]


def _noted(made: Made) -> dict[str, float]:
    found = {
        "passes": made.passes,
        "shallow_passes": made.shallow,
        "looks": made.looks,
        "slopes": made.slopes,
        "rows": made.rows,
        "seconds": made.seconds,
    }
    return {name: float(value) for name, value in found.items() if value is not None}
