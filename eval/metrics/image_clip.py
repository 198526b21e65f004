"""CLIP-I: the cosine of two pictures by CLIP, to the drawn truth and to pictures of each LoRA alone."""

from __future__ import annotations

from eval.metrics.batch import Batch
from eval.metrics.registry import Found, Measure, metric


@metric(
    "clip_truth",
    Measure("clip_truth", "CLIP-I to truth", "100 cos", "higher", "to the nearest of eight drawings"),
    needs=("truth",),
    by_clip=True,
)
def clip_truth(batch: Batch) -> list[Found]:
    """Compare with drawings of the same scene."""
    cases = {shot.case.name: shot.case for shot in batch.shots}
    drawn = {name: batch.tools.clip.images(list(batch.tools.drawings(case))) for name, case in cases.items()}
    return [
        Found({"clip_truth": 100 * float((drawn[shot.case.name] @ own).max())})
        for shot, own in zip(batch.shots, batch.embeddings, strict=True)
    ]


@metric(
    "clip_reference",
    Measure(
        "clip_reference", "CLIP-I to each alone", "100 cos", "higher", "to pictures of each member's LoRA alone, mean"
    ),
    needs=("references",),
    by_clip=True,
)
def clip_reference(batch: Batch) -> list[Found]:
    """Compare with what each LoRA does alone."""
    members = {one.name for shot in batch.shots for one in shot.case.set.members}
    alone = {name: batch.tools.clip.images(batch.tools.references[name]) for name in sorted(members)}
    out: list[Found] = []
    for shot, own in zip(batch.shots, batch.embeddings, strict=True):
        parts = {one.name: 100 * float((alone[one.name] @ own).mean()) for one in shot.case.set.members}
        out.append(Found({"clip_reference": sum(parts.values()) / len(parts)}, parts))
    return out
