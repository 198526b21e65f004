"""What else the prompt says, which LoRAs are to leave alone; and how much of a picture is not as it should be."""

from __future__ import annotations

from eval.bench import FOUND, share, value
from eval.metrics.batch import Batch
from eval.metrics.registry import DETECTORS, Found, Measure, metric
from lora_zoo.world.labels import labels, named


@metric(
    "kept",
    Measure("kept", "other attributes kept", "share", "higher", "share of the prompt's base attributes found"),
    needs=("truth",),
    by=DETECTORS,
)
def kept(batch: Batch) -> list[Found | None]:
    """Ask for what the prompt names beside the set's members, on its side; None where it names nothing else."""
    out: list[Found | None] = []
    for shot, scores in zip(batch.shots, batch.scores, strict=True):
        members = {one.name for one in shot.case.set.members}
        others = [label for label in named(shot.scene) if value(label) not in members]
        found = {label: scores[label] >= FOUND for label in others}
        parts = {label: float(seen) for label, seen in found.items()}
        out.append(Found({"kept": share(list(found.values()))}, parts) if found else None)
    return out


@metric(
    "labels",
    Measure("labels_wrong", "labels wrong", "labels", "lower", "answers of the detectors that differ from the scene's"),
    needs=("truth",),
    by=DETECTORS,
)
def wrong_labels(batch: Batch) -> list[Found]:
    """Count everything that is missing, and everything that is there and should not be."""
    out: list[Found] = []
    for shot, scores in zip(batch.shots, batch.scores, strict=True):
        asked = {label: truth for label, truth in labels(shot.scene).items() if truth is not None}
        wrong = [label for label, truth in asked.items() if truth != (scores[label] >= FOUND)]
        out.append(Found({"labels_wrong": float(len(wrong))}, dict.fromkeys(wrong, 1.0)))
    return out
