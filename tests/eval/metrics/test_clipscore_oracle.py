"""CLIPScore against torchmetrics, and against the published script's arithmetic, on 50 pictures of the embedded world.

torchmetrics takes any model with transformers' methods. The wrapper below gives it open_clip's: the processor turns
pictures and texts into tensors, the model answers with features that are not yet of length one.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from eval import suites
from eval.clip import Clip
from eval.metrics import registry
from eval.metrics.batch import Batch, Shot, Tools, shown
from eval.suites.model import Case

functional = pytest.importorskip("torchmetrics.functional.multimodal")


class Processor:
    """Speaks as transformers' CLIPProcessor does, as far as torchmetrics asks."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip

    def __call__(self, text: list[str] | None = None, images: Any = None, **_: Any) -> dict[str, Tensor]:
        out: dict[str, Tensor] = {}
        if images is not None:
            pictures = [Image.fromarray(np.asarray(one).transpose(1, 2, 0).astype(np.uint8)) for one in images]
            out["pixel_values"] = torch.stack([self._clip.preprocess(one) for one in pictures])
        if text is not None:
            out["input_ids"] = self._clip.tokenize(text)
            out["attention_mask"] = torch.ones_like(out["input_ids"])
        return out


class Model(torch.nn.Module):
    """Speaks as transformers' CLIPModel does, as far as torchmetrics asks."""

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self.inner = clip.model
        self.config = SimpleNamespace()  # of transformers' models; nothing in it is asked for

    def get_image_features(self, pixels: Tensor) -> Tensor:
        return self.inner.encode_image(pixels)

    def get_text_features(self, tokens: Tensor, _mask: Tensor) -> Tensor:
        return self.inner.encode_text(tokens)


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return list(suites.load("compos").cases(13))[:50]


@pytest.fixture(scope="module")
def ours(cases: list[Case]) -> list[float]:
    found = registry.get("clipscore").answer(Batch([Shot(case, "x", shown(case)) for case in cases], Tools()))
    return [one.values["clipscore"] for one in found if one is not None]


def test_torchmetrics_gives_the_same(cases: list[Case], ours: list[float]) -> None:
    clip = Clip.load()
    assert len(ours) == 50
    for case, value in zip(cases, ours, strict=True):
        picture = torch.as_tensor(np.array(shown(case))).permute(2, 0, 1)[None]
        theirs = functional.clip_score(picture, case.set.text, lambda: (Model(clip), Processor(clip)))
        assert value == pytest.approx(float(theirs), abs=1e-3)


def test_the_published_script_gives_the_same(cases: list[Case], ours: list[float]) -> None:
    """Its text is what follows ": " in each element's line, joined; its score is rounded to four places."""
    clip = Clip.load()
    for case, value in zip(cases, ours, strict=True):
        lines = [f"{place}. {one.category} ({one.name}): {one.text}" for place, one in enumerate(case.set.members, 1)]
        text = ", ".join(line.split(": ", 1)[1] for line in lines)
        with torch.no_grad():
            a = clip.model.encode_image(clip.preprocess(shown(case))[None])[0].double()
            b = clip.model.encode_text(clip.tokenize([text]))[0].double()
        score = max(100 * float(a @ b / (a.norm() * b.norm())), 0.0)
        assert round(value, 4) == pytest.approx(round(score, 4), abs=2e-4)
