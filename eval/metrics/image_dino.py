"""DINO's cosine of two pictures, to the drawn truth and to pictures of each LoRA alone; only if a DINO is named."""

from __future__ import annotations

from eval.metrics.batch import Batch
from eval.metrics.image_clip import alone, nearest
from eval.metrics.registry import Found, Measure, metric


@metric(
    "dino_truth",
    Measure("dino_truth", "DINO to truth", "100 cos", "higher", "to the nearest of eight drawings"),
    needs=("truth", "dino"),
    by="dino",
)
def dino_truth(batch: Batch) -> list[Found]:
    """Compare with drawings of the same scene."""
    return nearest(batch, batch.tools.dino, "dino_truth")


@metric(
    "dino_reference",
    Measure(
        "dino_reference", "DINO to each alone", "100 cos", "higher", "to pictures of each member's LoRA alone, mean"
    ),
    needs=("references", "dino"),
    by="dino",
)
def dino_reference(batch: Batch) -> list[Found]:
    """Compare with what each LoRA does alone."""
    return alone(batch, batch.tools.dino, "dino_reference")
