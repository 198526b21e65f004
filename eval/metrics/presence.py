"""Which of a set's concepts a picture shows, by the detectors of the embedded world.

Their balanced accuracy on drawn pictures is at least 99 % for every concept (`python -m eval detectors`).
"""

from __future__ import annotations

from eval.bench import FOUND, share
from eval.metrics.batch import Batch
from eval.metrics.registry import DETECTORS, Found, Measure, metric
from lora_zoo.detectors import anywhere


@metric(
    "presence",
    Measure("present", "concepts present", "share", "higher", "share of the set's concepts found anywhere"),
    Measure("complete", "all present", "share", "higher", "share of pictures in which all of them are found"),
    needs=("truth",),
    by=DETECTORS,
)
def presence(batch: Batch) -> list[Found]:
    """Ask for every member anywhere in the picture."""
    out: list[Found] = []
    for shot, scores in zip(batch.shots, batch.scores, strict=True):
        found = {one.name: anywhere(scores, one.name) >= FOUND for one in shot.case.set.members}
        answers = list(found.values())
        values = {"present": share(answers), "complete": float(all(answers))}
        out.append(Found(values, {name: float(seen) for name, seen in found.items()}))
    return out
