"""Whether what belongs to one of two creatures is on its side, and not on the other's."""

from __future__ import annotations

from eval.bench import FOUND, Scores, share
from eval.metrics.batch import Batch, Shot
from eval.metrics.registry import DETECTORS, Found, Measure, metric
from lora_zoo.world.labels import KINDS

_OTHER = {"left": "right", "right": "left"}


@metric(
    "sides",
    Measure("side", "on its own side", "share", "higher", "share of the concepts found on the side they belong to"),
    Measure("bleeding", "on the other side", "share", "lower", "share of the concepts found on the side of the other"),
    Measure(
        "apart", "both right, no bleeding", "share", "higher", "share of pictures with each concept on its side only"
    ),
    needs=("sides",),
    by=DETECTORS,
)
def sides(batch: Batch) -> list[Found | None]:
    """Ask for every concept of a creature on both sides; nothing is asked of pictures with one creature."""
    return [_found(shot, scores) for shot, scores in zip(batch.shots, batch.scores, strict=True)]


def _found(shot: Shot, scores: Scores) -> Found | None:
    if len(shot.scene.creatures) < 2:
        return None
    names = {one.name for one in shot.case.set.members}
    own: dict[str, bool] = {}
    other: dict[str, bool] = {}
    for slot, creature in shot.scene.slots():
        for kind in KINDS:
            value = getattr(creature, kind)
            if value in names:
                own[value] = scores[f"{slot}.{kind}.{value}"] >= FOUND
                other[value] = scores[f"{_OTHER[slot]}.{kind}.{value}"] >= FOUND
    right, wrong = list(own.values()), list(other.values())
    values = {"side": share(right), "bleeding": share(wrong), "apart": float(all(right) and not any(wrong))}
    return Found(values, {name: float(seen) for name, seen in own.items()})
