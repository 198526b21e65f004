"""KID and FID of every column of a run, against drawings of the same sets that no column shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL.Image import Image

from eval.columns import TRUTH
from eval.measuring import Measured
from eval.metrics.batch import Tools, drawings, shown
from eval.metrics.distribution import Features, Spread, spread
from eval.page.elements import opened
from eval.viewers import lacks_clip

__all__ = ["LEAST", "Spread", "of_run"]

LEAST = 50  # pictures: below this, distances between distributions say nothing


def of_run(measured: Measured, tools: Tools) -> dict[str, Spread]:
    """Return the distances by column; none where there is no ground truth, or no CLIP that knows the model's pictures.

    A column of few pictures has none either.
    """
    run = measured.run
    if not run.suite.drawn or len(run.cases) < LEAST or lacks_clip(run.wish.clip, run.models) is not None:
        return {}
    truth = _features([drawings(case)[0] for case in run.cases], tools)
    found = {TRUTH: spread(_features([shown(case) for case in run.cases], tools), truth)}
    for column in run.columns:
        files = [row.file for row in measured.rows if row.column == column.label]
        if len(files) >= LEAST:
            made = _features([opened(run.folder / file) for file in files], tools)
            found[column.label] = spread(made, truth)
    return found


def _features(images: Sequence[Image], tools: Tools) -> Features:
    """Return the CLIP's features at length sqrt(width), [pictures, width]."""
    found = tools.clip.images(images).double().numpy()
    return found * np.sqrt(found.shape[1])
