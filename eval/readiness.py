"""Whether a run can be measured, found out before anything is rendered: packages, models that look, a place for it."""

from __future__ import annotations

from collections.abc import Sequence

from eval import measuring, outputs, viewers
from eval.errors import BadMetric
from eval.metrics.registry import Metric
from eval.running import Run


def metrics(run: Run, names: Sequence[str]) -> tuple[list[Metric], list[str]]:
    """Return the metrics that a run will take, and what is to be told of them before it begins. Nothing is loaded.

    Raises:
        UnknownChoice: There is no such metric, CLIP or DINO.
        BadMetric: One needs what is not here: a CLIP by name, pictures to compare with, a package, weights.
        BadRun: The results' folder cannot be written to.
    """
    outputs.check_folder(run.folder)
    found = measuring.chosen(run, names)
    blind = viewers.lacks_clip(run.wish.clip, run.models)
    if not names and blind is not None:
        raise BadMetric(f"CLIPScore needs {viewers.unnamed(blind)}; or take other metrics, such as --metrics cost")
    for one in found:
        if one.ready is not None:
            one.ready()
    if run.wish.dino and not names and not _by(found, "dino"):
        raise BadMetric("--dino compares with pictures of each LoRA alone here; add --references N, or leave it out")
    told: list[str | None] = []
    if _by(found, "clip") or run.suite.drawn:  # a suite with drawings has its distances by the CLIP as well
        from eval import clip

        told.append(clip.check(run.wish.clip))
    if _by(found, "dino") and run.wish.dino:
        from eval import dino

        told.append(dino.check(run.wish.dino))
    return found, [text for text in told if text is not None]


def try_viewers(run: Run, found: Sequence[Metric]) -> None:
    """Load the models that a run names once, fetching what is not here, so that none fails after all is rendered.

    Raises:
        BadMetric: One cannot be found, fetched or read.
    """
    if _by(found, "clip") and run.wish.clip not in (None, viewers.EMBEDDED):
        from eval.clip import Clip

        Clip.named(run.wish.clip)
    if _by(found, "dino") and run.wish.dino:
        from eval.dino import Dino

        Dino.named(run.wish.dino)


def _by(found: Sequence[Metric], what: str) -> bool:
    return any(one.by == what for one in found)
