"""CLIP-I: the cosine of two pictures by CLIP, to the drawn truth and to pictures of each LoRA alone."""

from __future__ import annotations

from eval.metrics.batch import Batch, Viewer
from eval.metrics.registry import Found, Measure, metric


@metric(
    "clip_truth",
    Measure("clip_truth", "CLIP-I to truth", "100 cos", "higher", "to the nearest of eight drawings"),
    needs=("truth",),
    by="clip",
)
def clip_truth(batch: Batch) -> list[Found]:
    """Compare with drawings of the same scene."""
    return nearest(batch, batch.tools.clip, "clip_truth")


@metric(
    "clip_reference",
    Measure(
        "clip_reference", "CLIP-I to each alone", "100 cos", "higher", "to pictures of each member's LoRA alone, mean"
    ),
    needs=("references",),
    by="clip",
)
def clip_reference(batch: Batch) -> list[Found]:
    """Compare with what each LoRA does alone."""
    return alone(batch, batch.tools.clip, "clip_reference")


def nearest(batch: Batch, viewer: Viewer, measure: str) -> list[Found]:
    """Return 100 times each picture's cosine with the drawing of its scene that is most like it."""
    cases = {shot.case.name: shot.case for shot in batch.shots}
    drawn = {name: viewer.images(batch.tools.drawings(case)) for name, case in cases.items()}
    return [
        Found({measure: 100 * float((drawn[shot.case.name] @ own).max())})
        for shot, own in zip(batch.shots, batch.seen_by(viewer), strict=True)
    ]


def alone(batch: Batch, viewer: Viewer, measure: str) -> list[Found]:
    """Return 100 times each picture's cosine with pictures of each member's LoRA alone, by member and on average."""
    members = {one.name for shot in batch.shots for one in shot.case.set.members}
    views = {name: viewer.images(batch.tools.references[name]) for name in sorted(members)}
    out: list[Found] = []
    for shot, own in zip(batch.shots, batch.seen_by(viewer), strict=True):
        parts = {one.name: 100 * float((views[one.name] @ own).mean()) for one in shot.case.set.members}
        out.append(Found({measure: sum(parts.values()) / len(parts)}, parts))
    return out
