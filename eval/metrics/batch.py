"""Pictures that are measured together, and what metrics look at them with: computed once, when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from random import Random
from typing import TYPE_CHECKING, Protocol

from eval import viewers
from eval.errors import BadMetric
from eval.suites.model import Case, stable
from lora_zoo.world.draw import draw
from pipelines.engine import Engine

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from composer.request import RenderRequest
    from eval.bench import Scores
    from eval.clip import Clip
    from eval.dino import Dino
    from lora_zoo.detectors import Detectors
    from lora_zoo.world.scene import Scene

DRAWINGS = 8  # of one scene: positions and small things vary, and the nearest is what a picture is compared with
_KEPT = 64  # cases whose drawings are kept


@dataclass(frozen=True)
class Made:
    """What a picture took."""

    passes: int
    shallow: int
    rows: int | None  # None: made before they were counted
    seconds: float | None  # None: not noted
    looks: int = 0
    slopes: int = 0


@dataclass(frozen=True, eq=False)
class Shot:
    """One picture, and the case that it answers."""

    case: Case
    column: str
    image: Image
    made: Made | None = None  # None: drawn, not rendered
    alone: RenderRequest | None = None  # what made it, if it is to be rendered once more and watched

    @property
    def scene(self) -> Scene:
        assert self.case.set.scene is not None, "a metric that needs the truth is not asked without it"
        return self.case.set.scene


class Viewer(Protocol):
    """A model that looks at pictures."""

    def images(self, images: Sequence[Image]) -> Tensor:
        """Return the view of each picture, of length one, [images, width]."""
        ...


class Tools:
    """Models that look at pictures, loaded when they are first used."""

    def __init__(
        self,
        clip: str | None = None,
        references: dict[str, list[Image]] | None = None,
        engine: Engine | None = None,
        dino: str | None = None,
    ) -> None:
        self._clip_name, self._dino_name = clip, dino
        self.references = references or {}  # member -> pictures of it alone
        self.engine = engine or Engine()
        self.drawings = lru_cache(_KEPT)(drawings)

    def measured_by(self, by: str) -> str:
        """Return what measures, in words; "clip" is the CLIP of these tools."""
        return viewers.clip_name(self._clip_name) if by == "clip" else by

    @cached_property
    def detectors(self) -> Detectors:
        from lora_zoo.detectors import Detectors

        return Detectors.load()

    @cached_property
    def clip(self) -> Clip:
        from eval.clip import Clip

        return Clip.named(self._clip_name)

    @cached_property
    def dino(self) -> Dino:
        from eval.dino import Dino

        if self._dino_name is None:
            raise BadMetric("no DINO is named (--dino)")
        return Dino.named(self._dino_name)


class Batch:
    """Some pictures, and what several metrics want to know of them."""

    def __init__(self, shots: Sequence[Shot], tools: Tools) -> None:
        self.shots, self.tools = shots, tools
        self._seen: dict[int, Tensor] = {}

    @cached_property
    def scores(self) -> list[Scores]:
        """What the detectors say of each picture."""
        return self.tools.detectors.scores([one.image for one in self.shots])

    def seen_by(self, viewer: Viewer) -> Tensor:
        """Return a model's view of each picture, of length one, [pictures, width]; each model looks once."""
        if id(viewer) not in self._seen:  # the models are the tools' own, and live longer than a batch
            self._seen[id(viewer)] = viewer.images([one.image for one in self.shots])
        return self._seen[id(viewer)]


def drawings(case: Case) -> tuple[Image, ...]:
    """Return several ground truths of a case, none of them the one that the column of drawings shows."""
    if case.set.scene is None:
        raise BadMetric(f"set {case.set.key!r} has no ground truth")
    rng = Random(stable(f"drawings {case.name}"))
    return tuple(draw(case.set.scene, rng.getrandbits(32)) for _ in range(DRAWINGS))


def shown(case: Case) -> Image:
    """Return the drawing that stands for a perfect method."""
    if case.set.scene is None:
        raise BadMetric(f"set {case.set.key!r} has no ground truth")
    return draw(case.set.scene, case.seed)
