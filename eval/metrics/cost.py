"""What a picture takes."""

from __future__ import annotations

from eval.metrics.batch import Batch
from eval.metrics.registry import Found, Measure, metric


@metric(
    "cost",
    Measure("passes", "UNet passes", "passes", "lower", "whole evaluations of the UNet that the method asks for"),
    Measure("shallow_passes", "shallow passes", "passes", "lower", "evaluations of its outer layers only"),
    Measure("rows", "UNet rows", "rows", "lower", "samples that go through the UNet"),
    Measure("seconds", "seconds", "s", "lower", "its share of a call's time, on the machine that rendered it"),
)
def cost(batch: Batch) -> list[Found | None]:
    """Read what was noted when the picture was rendered; drawings took nothing."""
    return [
        None
        if (made := shot.made) is None
        else Found(
            {
                "passes": float(made.passes),
                "shallow_passes": float(made.shallow),
                "rows": float(made.rows),
                "seconds": made.seconds,
            }
        )
        for shot in batch.shots
    ]
